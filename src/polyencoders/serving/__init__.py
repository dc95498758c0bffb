"""The models and indexes over HTTP, with a page to see why. Needs `pip install "polyencoders[serve]"`."""
