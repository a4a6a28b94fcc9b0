import ApusFormats
import ApusServables
import ApusTensor

/// The elements of a tensor, read from JSON into memory that grows as they come.
///
/// ```swift
/// var elements = JSONElements(.float32, name: "image", expecting: 784)
/// let shape = try elements.append(from: &scanner)   // one number, or lists of lists of them
/// let tensor = try elements.tensor(shape)
/// ```
struct JSONElements: ~Copyable {
  let elementType: ElementType
  /// Elements so far.
  private(set) var count = 0
  /// Whether `{"b64": "…"}` and strings stand for lists of bytes.
  let readsBytes: Bool
  private let name: String?
  private let limit: Int
  private var expected: Int
  private var memory: UnsafeMutableRawPointer?
  private var capacity = 0
  /// Of the value being read: the elements so far of the list at each depth, and how many each list there has, -1 where no list has ended.
  private var counts: [Int] = []
  private var sizes: [Int] = []
  /// Of the value being read, -1 until it is known.
  private var rank = -1

  /// - Parameters:
  ///   - name: the input's, for messages.
  ///   - expecting: how many elements there will be, if that is known; others are accepted.
  ///   - limit: most bytes of elements.
  ///   - readsBytes: whether a string's UTF-8 and the bytes of `{"b64": "…"}` stand for a list of uint8.
  init(_ elementType: ElementType, name: String? = nil, expecting: Int = 0, limit: Int = .max, readsBytes: Bool = false) {
    (self.elementType, self.name, self.expected, self.limit) = (elementType, name, expecting, limit)
    self.readsBytes = readsBytes && elementType == .uint8
  }

  deinit { memory?.deallocate() }

  /// The elements' bytes so far, in row-major order.
  func withUnsafeBytes<R, E>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    try body(UnsafeRawBufferPointer(start: memory, count: count * elementType.byteSize))
  }

  /// All that was read, as a tensor.
  /// - Throws: ``ServingError``, `invalidArgument`, if the shape has another number of elements or too many dimensions.
  func tensor(_ shape: [Int]) throws(ServingError) -> Tensor {
    guard shape.count <= Shape.maxRank else {
      throw error("a tensor has at most \(Shape.maxRank) dimensions, not \(shape.count)")
    }
    var product = 1
    for size in shape {
      let (result, overflow) = product.multipliedReportingOverflow(by: size)
      guard size >= 0, !overflow else { throw error("a tensor cannot have the shape \(shape)") }
      product = result
    }
    guard product == count else { throw error("there are \(count) elements, but the shape \(shape) has \(product)") }
    return withUnsafeBytes { Tensor(bytes: $0, shape: Shape(shape), elementType: elementType) }
  }

  /// Reads one value, a number or lists nested to any depth that a tensor can have, and returns its shape.
  /// - Throws: ``ServingError``, `invalidArgument`, naming the input, the index and the value, or the byte where it is not JSON.
  mutating func append(from scanner: inout JSONScanner) throws(ServingError) -> [Int] {
    switch elementType {
    case .bool: try append(Bool.self, &scanner)
    case .uint8: try append(UInt8.self, &scanner)
    case .int8: try append(Int8.self, &scanner)
    case .int16: try append(Int16.self, &scanner)
    case .int32: try append(Int32.self, &scanner)
    case .int64: try append(Int64.self, &scanner)
    case .float16: try append(Float16Bits.self, &scanner)
    case .bfloat16: try append(BFloat16Bits.self, &scanner)
    case .float32: try append(Float.self, &scanner)
    case .float64: try append(Double.self, &scanner)
    }
    return rank <= 0 ? [] : Array(sizes[..<rank])
  }

  private mutating func append<T: JSONElement>(_: T.Type, _ scanner: inout JSONScanner) throws(ServingError) {
    sizes.removeAll(keepingCapacity: true)
    counts.removeAll(keepingCapacity: true)
    rank = -1
    // How many lists have begun and not ended.
    var depth = 0
    let deepest = min(Shape.maxRank, scanner.depthLeft)
    values: while true {
      scanner.cursor.skipSpace()
      switch scanner.cursor.byteOrZero {
      case UInt8(ascii: "["):
        guard rank < 0 || depth < rank else { throw ragged("a list", depth, &scanner) }
        guard depth < deepest else {
          throw deepest < Shape.maxRank
            ? scanner.error("nested deeper than \(scanner.maxDepth) levels")
            : error("a tensor has at most \(Shape.maxRank) dimensions, but lists are nested deeper")
        }
        scanner.cursor.index += 1
        depth += 1
        if counts.count < depth {
          counts.append(0)
          sizes.append(-1)
        } else {
          counts[depth - 1] = 0
        }
        scanner.cursor.skipSpace()
        switch scanner.cursor.byteOrZero {
        case UInt8(ascii: "["), UInt8(ascii: "{"), UInt8(ascii: "\""): continue values
        case UInt8(ascii: "]"):
          scanner.cursor.index += 1
          if rank < 0 { rank = depth }
        default:
          if rank < 0 { rank = depth }
          guard rank == depth else { throw ragged("a number", depth, &scanner) }
          try run(T.self, &scanner, depth)
        }
        try close(&depth)
      case UInt8(ascii: "{") where readsBytes, UInt8(ascii: "\"") where readsBytes:
        if rank < 0 { rank = depth + 1 }
        guard rank == depth + 1 else { throw ragged("bytes", depth, &scanner) }
        let length = try bytes(&scanner, depth)
        if counts.count <= depth {
          counts.append(0)
          sizes.append(-1)
        }
        counts[depth] = length
        depth += 1
        try close(&depth)
      default:
        if rank < 0 { rank = depth }
        guard rank == depth else { throw ragged("a number", depth, &scanner) }
        var cursor = scanner.cursor
        let start = cursor.index
        let value: T
        do throws(JSONFault) { value = try T.read(&cursor) } catch { throw fault(error, start, depth, scanner) }
        scanner.cursor = cursor
        try makeRoom(1, scanner)
        memory!.storeBytes(of: value, toByteOffset: count * MemoryLayout<T>.size, as: T.self)
        count += 1
      }
      // A value has ended; so may lists.
      while true {
        guard depth > 0 else { return }
        counts[depth - 1] += 1
        scanner.cursor.skipSpace()
        switch scanner.cursor.byteOrZero {
        case UInt8(ascii: ","):
          scanner.cursor.index += 1
          continue values
        case UInt8(ascii: "]"):
          scanner.cursor.index += 1
          try close(&depth)
        default: throw unexpected(scanner)
        }
      }
    }
  }

  /// Reads the elements of an innermost list and its closing bracket.
  private mutating func run<T: JSONElement>(_: T.Type, _ scanner: inout JSONScanner, _ depth: Int) throws(ServingError) {
    var cursor = scanner.cursor
    // All lists of a depth have the same size, most often.
    let size = sizes[depth - 1]
    try makeRoom(max(1, size), scanner)
    var next = count
    let first = next
    var target = memory!.assumingMemoryBound(to: T.self)
    while true {
      if next == capacity {
        count = next
        try makeRoom(1, scanner)
        target = memory!.assumingMemoryBound(to: T.self)
      }
      let start = cursor.index
      do throws(JSONFault) { target[next] = try T.read(&cursor) } catch {
        counts[depth - 1] = next - first
        throw fault(error, start, depth, scanner)
      }
      next += 1
      cursor.skipSpace()
      let byte = cursor.byteOrZero
      if byte == UInt8(ascii: ",") {
        cursor.index += 1
        cursor.skipSpace()
      } else {
        count = next
        counts[depth - 1] = next - first
        scanner.cursor = cursor
        guard byte == UInt8(ascii: "]") else { throw unexpected(scanner) }
        scanner.cursor.index += 1
        return
      }
    }
  }

  /// Ends the innermost list, which must be as long as the others of its depth.
  @inline(__always) private mutating func close(_ depth: inout Int) throws(ServingError) {
    depth -= 1
    if sizes[depth] < 0 {
      sizes[depth] = counts[depth]
    } else if sizes[depth] != counts[depth] {
      let place = depth == 0 ? "the list" : "the list at \(Array(counts[..<depth]))"
      throw error("\(place) has \(counts[depth]) elements, where those before it have \(sizes[depth])")
    }
  }

  /// Reads a string's UTF-8 or the bytes of `{"b64": "…"}`.
  private mutating func bytes(_ scanner: inout JSONScanner, _ depth: Int) throws(ServingError) -> Int {
    let bytes: [UInt8]
    if scanner.cursor.byteOrZero == UInt8(ascii: "{") {
      try scanner.beginObject()
      guard try scanner.nextKey() == "b64", try scanner.kind() == .string else {
        throw error("\(place(depth))an object that is not {\"b64\": \"…\"} stands for no bytes")
      }
      guard let decoded = try scanner.base64() else {
        throw error("\(place(depth))Unable to base64 decode")
      }
      guard try scanner.nextKey() == nil else {
        throw error("\(place(depth))an object that is not {\"b64\": \"…\"} stands for no bytes")
      }
      bytes = decoded
    } else {
      bytes = Array(try scanner.string().utf8)
    }
    if !bytes.isEmpty {
      try makeRoom(bytes.count, scanner)
      bytes.withUnsafeBytes { (memory! + count).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
    count += bytes.count
    return bytes.count
  }

  private mutating func makeRoom(_ more: Int, _ scanner: borrowing JSONScanner) throws(ServingError) {
    guard more > capacity - count else { return }
    let size = elementType.byteSize
    // Two bytes of text hold an element at least, with one to spare, so that no announced number takes more memory than what was sent.
    let left = (scanner.cursor.end - scanner.cursor.index) / 2 + 1
    guard count + more <= limit / size else { throw error("the elements take more than \(limit) bytes") }
    let room = min(limit / size, count + max(more, min(left, max(expected - count, 16, count))))
    let new = UnsafeMutableRawPointer.allocate(byteCount: room * size, alignment: 16)
    if let memory {
      new.copyMemory(from: memory, byteCount: count * size)
      memory.deallocate()
    }
    (memory, capacity) = (new, room)
  }

  // MARK: Errors

  private func place(_ depth: Int) -> String { depth == 0 ? "" : "at \(Array(counts[..<depth])): " }

  private func error(_ message: String) -> ServingError {
    ServingError(.invalidArgument, name.map { "input '\(FormatError.excerpt($0))': \(message)" } ?? message)
  }

  @inline(never)
  private func fault(_ fault: JSONFault, _ start: Int, _ depth: Int, _ scanner: JSONScanner) -> ServingError {
    let excerpt = scanner.excerpt(at: start)
    return error(fault.message(depth == 0 || excerpt.isEmpty ? excerpt : "\(excerpt) at \(Array(counts[..<depth]))", elementType))
  }

  @inline(never)
  private func ragged(_ found: String, _ depth: Int, _ scanner: inout JSONScanner) -> ServingError {
    let there = depth == 0 ? "" : " at \(Array(counts[..<depth]))"
    return error("\(found)\(there), where \(rank > depth ? "a list" : "a number") belongs as before")
  }

  @inline(never)
  private func unexpected(_ scanner: JSONScanner) -> ServingError {
    guard scanner.cursor.index < scanner.cursor.end else { return error(scanner.error("the text ends inside a list").message) }
    return error(scanner.error("expected ',' or ']', not \(JSONScanner.describe(scanner.cursor.byte))").message)
  }
}
