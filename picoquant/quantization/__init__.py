"""INT8 quantisation of an exported model: PaddleSlim's AutoCompression with its slow parts replaced."""
