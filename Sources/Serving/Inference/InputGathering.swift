import ApusExport
import ApusFormats
import ApusServables
import ApusTensor

/// The inputs of a request, taken one by one and checked against a model's signature before any memory is taken for them.
struct InputGathering {
  let model: ServedModel
  let signature: Signature
  private(set) var tensors: [String: Tensor] = [:]
  /// Sizes of open dimensions, and the input that said so first.
  private var openSizes: [String: (size: Int, input: String)] = [:]
  private var byteCount = 0

  init(_ model: ServedModel, _ signature: Signature) { (self.model, self.signature) = (model, signature) }

  /// An input that has passed its checks and lacks its data.
  struct Slot {
    let name: String
    let elementType: ElementType
    let shape: Shape
    var byteCount: Int { shape.elementCount * elementType.byteSize }
  }

  private func invalid(_ message: String) -> ServingError { ServingError(.invalidArgument, message) }

  private func input(_ name: String) throws(ServingError) -> Signature.Input {
    guard let input = signature.inputs.first(where: { $0.name == name }) else {
      let known = signature.inputs.map { quoted($0.name) }.joined(separator: ", ")
      throw invalid("unexpected inference input \(quoted(name)) for model \(quoted(model.name)), whose inputs are \(known)")
    }
    guard tensors[name] == nil else { throw invalid("inference input \(quoted(name)) is given twice") }
    return input
  }

  /// Checks the type and the shape that a request says an input has.
  /// - Throws: ``ServingError``, naming the input and what differs.
  mutating func slot(_ name: String, _ elementType: ElementType, shape: [Int]) throws(ServingError) -> Slot {
    let spec = try input(name).spec
    guard elementType == spec.elementType else {
      throw invalid(
        "inference input \(quoted(name)) data-type is '\(elementType.inferenceName)', but model \(quoted(model.name)) expects "
          + "'\(spec.elementType.inferenceName)'")
    }
    if let size = shape.first(where: { $0 < 0 }) {
      throw invalid("inference input \(quoted(name)) has the size \(size) in its shape, which no dimension can have")
    }
    func unexpected() -> ServingError {
      let given = shape.count <= 16 ? listed(shape) : "\(shape.count) dimensions"
      return invalid(
        "unexpected shape for input \(quoted(name)) for model \(quoted(model.name)). "
          + "Expected \(listed(spec.dimensions.map(\.inferenceSize))), got \(given)")
    }
    guard shape.count == spec.dimensions.count, shape.count <= Shape.maxRank else { throw unexpected() }
    for (size, dimension) in zip(shape, spec.dimensions) {
      switch dimension {
      case .fixed(let expected): guard size == expected else { throw unexpected() }
      case .open(let open, let sizes):
        guard sizes.contains(size) else {
          throw invalid(
            "inference input \(quoted(name)): the dimension \(quoted(open)) is \(size), but may be \(sizes.lowerBound) to "
              + "\(sizes.upperBound)")
        }
        if let first = openSizes[open], first.size != size {
          throw invalid(
            "inference input \(quoted(name)): the dimension \(quoted(open)) is \(size), but \(first.size) in input "
              + quoted(first.input))
        }
        openSizes[open] = (size, name)
      }
    }
    let limit = model.configuration.maxRequestBytes
    guard let count = Shape(shape).checkedElementCount else {
      throw invalid("inference input \(quoted(name)): the number of elements of shape \(listed(shape)) is beyond 64 bits")
    }
    let (bytes, over) = count.multipliedReportingOverflow(by: elementType.byteSize)
    guard !over, bytes <= limit - byteCount else {
      throw invalid(
        "inference input \(quoted(name)) of shape \(listed(shape)): the inputs have more than the \(limit) bytes that a request "
          + "may have")
    }
    byteCount += bytes
    return Slot(name: name, elementType: elementType, shape: Shape(shape))
  }

  /// Checks strings for a `uint8` input: `shape` is that of the strings, all of `length` bytes.
  mutating func slot(_ name: String, stringsOf length: Int, shape: [Int]) throws(ServingError) -> Slot {
    let spec = try input(name).spec
    guard spec.elementType == .uint8 else {
      throw invalid(
        "inference input \(quoted(name)) data-type is 'BYTES', but model \(quoted(model.name)) expects "
          + "'\(spec.elementType.inferenceName)'")
    }
    // Triton's clients give strings a shape like [batch, 1]; the one may stand for the string itself.
    let isTrailing = shape.count == spec.dimensions.count && shape.last == 1
    return try slot(name, .uint8, shape: (isTrailing ? shape.dropLast() : shape[...]) + [length])
  }

  /// Makes the tensor; `fill` writes every byte.
  mutating func add(_ slot: Slot, _ fill: (UnsafeMutableRawBufferPointer) throws(ServingError) -> Void) throws(ServingError) {
    tensors[slot.name] = try Tensor(uninitialized: slot.shape, slot.elementType) { (memory) throws(ServingError) in
      try fill(memory)
      // Any byte but 0 is true to a client; in memory, only 1 is.
      if slot.elementType == .bool { for i in memory.indices where memory[i] > 1 { memory[i] = 1 } }
    }
  }

  /// The tensors, when all have come.
  func finish() throws(ServingError) -> [String: Tensor] {
    let missing = signature.inputs.filter { tensors[$0.name] == nil }
    guard missing.isEmpty else {
      func list(_ names: [String]) -> String { "[" + names.map(quoted).joined(separator: ",") + "]" }
      let got = signature.inputs.map(\.name).filter { tensors[$0] != nil }
      throw invalid(
        "expected \(signature.inputs.count) inputs but got \(got.count) inputs for model \(quoted(model.name)). Got input(s) "
          + "\(list(got)), but missing required input(s) \(list(missing.map(\.name))). Please provide all required input(s).")
    }
    return tensors
  }
}

extension Dimension {
  /// -1 for an open one.
  var inferenceSize: Int { if case .fixed(let size) = self { size } else { -1 } }
}

/// Strings in the binary form, each a 32-bit length and its bytes, for a `uint8` input.
struct LengthPrefixedStrings {
  let bytes: UnsafeRawBufferPointer

  /// The one length that all have.
  /// - Throws: ``ServingError`` if there are not `count` of them, they differ in length, or a length leads outside.
  func length(count: Int, input: String) throws(ServingError) -> Int {
    func invalid(_ message: String) -> ServingError {
      ServingError(.invalidArgument, "inference input \(quoted(input)) of data-type 'BYTES': " + message)
    }
    var (position, found, common) = (0, 0, 0)
    while position < bytes.count {
      guard bytes.count - position >= 4 else { throw invalid("the data ends inside a length") }
      let length = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)))
      guard length <= bytes.count - position - 4 else {
        throw invalid("element \(found) should have \(length) bytes, \(bytes.count - position - 4) are left")
      }
      if found == 0 { common = length }
      guard length == common else {
        throw invalid("element \(found) has \(length) bytes, element 0 \(common); they fill one tensor, so all must be alike")
      }
      position += 4 + length
      found += 1
    }
    guard found == count else { throw invalid("expected \(count) elements, got \(found)") }
    return common
  }

  /// Copies the strings without their lengths.
  func copy(length: Int, into memory: UnsafeMutableRawBufferPointer) {
    guard length > 0 else { return }
    for i in 0..<memory.count / length {
      UnsafeMutableRawBufferPointer(rebasing: memory[i * length..<(i + 1) * length]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: bytes[i * (4 + length) + 4..<(i + 1) * (4 + length)]))
    }
  }
}

/// The number of elements of a shape from a client.
/// - Throws: ``ServingError`` if a size is negative or the product is beyond 64 bits.
func checkedCount(_ shape: [Int], input: String) throws(ServingError) -> Int {
  var count = 1
  for size in shape {
    let (product, over) = count.multipliedReportingOverflow(by: size)
    guard size >= 0, !over else {
      throw ServingError(
        .invalidArgument, "inference input \(quoted(input)): the shape \(listed(Array(shape.prefix(16)))) is not possible")
    }
    count = product
  }
  return count
}
