"""The tables of ``relucid experiment``: what training and attacks reach, beside what is proved."""
