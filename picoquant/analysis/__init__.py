"""Why an INT8 network is worse than its FP32 form: what each layer costs, and what has built up to each tensor."""
