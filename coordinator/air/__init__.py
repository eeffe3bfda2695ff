"""From a plan's loads to bursts on the air: window, airtime, power, energy."""
