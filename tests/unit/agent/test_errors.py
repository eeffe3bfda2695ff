from siftmoe.agent import errors
from siftmoe.agent.wire.messages import Failure, error_of, failure_of
from siftmoe.agent.wire.protocol import decode, encode


def wire_errors():
    found = errors.WireError.__subclasses__()
    for cls in found:  # grows while it is gone through
        found.extend(cls.__subclasses__())
    return found


def test_codes_and_errors_are_one_to_one():
    assert {cls.code for cls in wire_errors()} == set(errors.ErrorCode)
    assert len(wire_errors()) == len(errors.ErrorCode)


def test_an_error_comes_out_as_it_went_in():
    for cls in wire_errors():
        sent = failure_of(cls("expert 3 is ill"), request_id=9)
        received = decode(encode(sent))
        assert received == sent
        assert type(error_of(received)) is cls
        assert str(error_of(received)) == "expert 3 is ill"


def test_the_code_of_a_newer_agent_is_a_fault_of_the_agent():
    sent = encode(Failure(id=1, code="overheated", message="95 °C"))
    received = decode(sent)
    assert received.code is errors.ErrorCode.INTERNAL
    assert received.message == "95 °C"


def test_a_message_is_cut_and_made_sendable():
    failure = failure_of(errors.InternalFailure("\udcff" + "x" * 10_000), request_id=1)
    assert decode(encode(failure)) == failure
