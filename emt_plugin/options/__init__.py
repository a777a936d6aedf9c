"""Every option of the gate, and the page that tells of them."""
