"""The program ``fxrebasin``."""
