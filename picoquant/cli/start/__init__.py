"""Commands around the first run: environment, data sets, a recipe of one's own."""
