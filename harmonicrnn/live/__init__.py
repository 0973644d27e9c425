"""The live page: a local web page that plays voices in the browser while they draw."""
