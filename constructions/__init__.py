"""From a data set to a network that is robust on it by theorem."""
