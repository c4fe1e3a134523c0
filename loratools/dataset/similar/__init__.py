"""Which pictures are the same one twice, and which are variants of one scene: by their prints, or as a site says."""
