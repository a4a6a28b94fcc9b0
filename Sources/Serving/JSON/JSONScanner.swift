/// Reads JSON from bytes token by token, without a tree: tensors of a request go straight into their memory.
struct JSONScanner {
  let bytes: UnsafeRawBufferPointer
  var index = 0
  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }
}
