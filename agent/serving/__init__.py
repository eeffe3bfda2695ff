"""Sockets and threads of an agent: the loop that listens while another thread computes."""
