"""How DRSL is computed: as its formula reads, in chunks of queries, or by a Triton kernel."""
