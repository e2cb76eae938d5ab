"""Which adapter makes place for another: one interface, and the policies behind it. No torch below this folder."""
