"""The policies that studies compare, and the values of their knobs."""

from __future__ import annotations

from siftmoe.tools.experiments.studies.definition import Curve

#: Prices, in energies of a token at the mean gain per nat: losses from almost 0 to 10 %.
_PRICES = (900.0, 450.0, 220.0, 130.0, 75.0, 40.0)
_PER_WEIGHT = (100.0, 60.0, 45.0, 35.0, 28.0)
_TOLERANCES = (0.1, 0.2, 0.3, 0.4, 0.5)

#: Prices for policies that choose widths: a token needs less energy, so prices are lower.
_WIDTH_PRICES = (800.0, 400.0, 200.0, 100.0, 70.0, 50.0, 35.0, 20.0)
_PAIR_PRICES = (800.0, 400.0, 200.0, 100.0, 50.0)

TOPK = Curve(label="topk", template="topk")
TOP_ONE = Curve(label="topk-1", template="topk-1")
TOP_ONE_SCALED = Curve(label="topk-1 scaled", template="topk-1:rescale=true")
PRICE = Curve(label="siftmoe price", template="siftmoe:price={}:rescale=true", values=_PRICES)
PRICE_UNSCALED = Curve(
    label="siftmoe price, unscaled",
    template="siftmoe:price={}:rescale=false",
    values=_PRICES[1:5],
)
TOLERANCE = Curve(label="siftmoe per token", template="siftmoe:tolerance={}", values=_TOLERANCES)
TOLERANCE_SCALED = Curve(
    label="siftmoe per token, scaled",
    template="siftmoe:tolerance={}:rescale=true",
    values=_TOLERANCES,
)
AVERAGE = Curve(
    label="siftmoe average", template="siftmoe:average={}", values=(0.02, 0.04, 0.06, 0.09)
)
SKIP = Curve(label="skip-only price", template="skip-only:price={}", values=_PRICES[1:])
SKIP_TOLERANCE = Curve(
    label="skip-only per token", template="skip-only:tolerance={}", values=_TOLERANCES
)
GATE = Curve(label="gate-price", template="gate-price:price={}", values=_PER_WEIGHT)
#: Prices of a nat of the router's logits, not of the loss.
ROUTER = Curve(
    label="router-bias", template="router-bias:price={}", values=(200.0, 100.0, 50.0, 25.0, 12.0)
)
DES = Curve(label="des", template="des:threshold={}", values=(0.8, 0.7, 0.65, 0.6, 0.55))
WDMOE = Curve(
    label="wdmoe", template="wdmoe:min_weight={}", values=(0.2, 0.3, 0.35, 0.4, 0.45, 0.5)
)

UNIFORM = Curve(
    label="uniform width", template="topk:bits={}", values=(8.0, 6.0, 5.0, 4.0, 3.0, 2.0)
)
CHANNEL = Curve(
    label="width by channel",
    template="channel-width:price={}:bits=auto:rescale=false",
    values=_WIDTH_PRICES,
)
#: Our selection at one width up and one back.
FIXED = tuple(
    Curve(
        label=f"siftmoe, {up} up {back} back",
        template=f"siftmoe:price={{}}:bits={up}:downlink_bits={back}",
        values=_PAIR_PRICES,
    )
    for up, back in ((6, 5), (5, 5), (5, 4), (4, 5), (4, 4))
)
#: The width to the helper chosen, 8 bits back.
JOINT_UP = Curve(
    label="siftmoe, joint, 8 back",
    template="siftmoe:price={}:bits=auto:downlink_bits=8",
    values=_WIDTH_PRICES,
)
JOINT = Curve(label="siftmoe, joint", template="siftmoe:price={}:bits=auto", values=_WIDTH_PRICES)

#: Every policy, with its knob swept.
ALL = (
    TOPK,
    TOP_ONE,
    TOP_ONE_SCALED,
    PRICE,
    PRICE_UNSCALED,
    SKIP,
    TOLERANCE,
    SKIP_TOLERANCE,
    AVERAGE,
    GATE,
    ROUTER,
    DES,
    WDMOE,
)
#: Policies that are set to one stated loss while another quantity is varied.
AT_LOSS = (PRICE, TOLERANCE, SKIP, GATE, DES, WDMOE)
WDMOE_COSINE = Curve(
    label="wdmoe, cosine",
    template="wdmoe:rule=cosine:threshold={}",
    values=(0.6, 0.7, 0.8, 0.9),
)
