import ApusIR
import CApusKernels

extension UnaryKind {
  /// The activation as a product's kernel names it.
  var epilogue: Int32 {
    let code: apus_epilogue =
      switch self {
      case .relu: APUS_EPILOGUE_RELU
      case .gelu: APUS_EPILOGUE_GELU_ERF
      case .geluTanh: APUS_EPILOGUE_GELU_TANH
      case .sigmoid: APUS_EPILOGUE_SIGMOID
      case .tanh: APUS_EPILOGUE_TANH
      case .silu: APUS_EPILOGUE_SILU
      default: preconditionFailure("\(self) is not an activation of products")
      }
    return Int32(code.rawValue)
  }
}

extension CPU {
  /// What is done to the result of a product or convolution while it is in registers, in this order: bias, residual, activation;
  /// or bias, activation, residual.
  struct Epilogue {
    /// One value per column: its last dimension is read.
    var bias: CPUArray?
    var activation: UnaryKind?
    /// Of the result's shape, row-major.
    var residual: CPUArray?
    var residualComesAfter = false
    /// The right side as the kernel reads it.
    var packed: CPUArray?
  }

  /// One side of a product as [batch…, rows, columns]: strides only, unless dimensions cannot be merged.
  private struct Side {
    var array: CPUArray
    var rows, columns: Int
    var rowStride, columnStride: Int

    /// Reads `array` with its dimensions in the order batch, rows, columns.
    init(_ array: CPUArray, batch: Axes, rows: Axes, columns: Axes) {
      var view = CPU.transpose(array, Axes(Array(batch) + Array(rows) + Array(columns)))
      let n = batch.count
      var merged = Side.merge(view, n, rows.count, columns.count)
      if merged == nil {
        view = view.copy()
        merged = Side.merge(view, n, rows.count, columns.count)
      }
      self.array = view
      (self.rows, rowStride, self.columns, columnStride) = merged.unsafelyUnwrapped
    }

    private static func merge(_ x: CPUArray, _ batch: Int, _ rows: Int, _ columns: Int) -> (Int, Int, Int, Int)? {
      guard let r = merge(x, batch..<(batch + rows)), let c = merge(x, (batch + rows)..<(batch + rows + columns)) else {
        return nil
      }
      return (r.size, r.stride, c.size, c.stride)
    }

    /// Several dimensions as one, if they are one in memory.
    private static func merge(_ x: CPUArray, _ range: Range<Int>) -> (size: Int, stride: Int)? {
      // Nothing is read of an empty side: a sum over no elements.
      if x.elementCount == 0 { return (range.reduce(1) { $0 * x.shape[$1] }, 1) }
      var size = 1
      var step = 1
      for i in range.reversed() where x.shape[i] != 1 {
        if size == 1 {
          step = x.strides[i]
        } else if x.strides[i] != step * size {
          return nil
        }
        size *= x.shape[i]
      }
      return (size, step)
    }
  }

  /// `out` is row-major.
  static func run(dot d: DotDimensions, _ a: CPUArray, _ b: CPUArray, _ out: CPUArray, _ epilogue: Epilogue = Epilogue()) {
    if out.elementCount == 0 { return }
    let lhs = Side(a, batch: d.lhsBatch, rows: d.lhsFree(rank: a.shape.count), columns: d.lhsContracting)
    let rhs = Side(b, batch: d.rhsBatch, rows: d.rhsContracting, columns: d.rhsFree(rank: b.shape.count))
    product(lhs, rhs, batch: d.lhsBatch.count, out, epilogue)
  }

  /// x · weightᵀ + bias: x [rows…, k], weight [n, k], bias [n].
  static func run(
    linear x: CPUArray, _ weight: CPUArray, _ bias: CPUArray, _ out: CPUArray, _ epilogue: Epilogue = Epilogue()
  ) {
    if out.elementCount == 0 { return }
    let last = x.shape.count - 1
    let lhs = Side(x, batch: [], rows: Axes(0..<last), columns: [last])
    let rhs = Side(weight, batch: [], rows: [1], columns: [0])
    var epilogue = epilogue
    epilogue.bias = bias
    product(lhs, rhs, batch: 0, out, epilogue)
  }

  /// Another form of a weight, which a kernel reads instead: what it is as bytes, and how it is made.
  struct Preparation: Sendable {
    let type: TensorType
    let make: @Sendable (_ weight: CPUArray, _ result: CPUArray) -> Void
  }

  /// The right side of a product in the form that its kernel reads, for weights that stay the same; nil if nothing is gained.
  static func preparation(_ operation: Operation, _ x: CPUArray, _ weight: CPUArray)
    -> Preparation?
  {
    let (rows, columns): (Int, Int)  // dimensions of the weight that are summed over, and that stay
    switch operation {
    case .composite(.linear): (rows, columns) = (1, 0)
    case .dot(let d):
      guard weight.shape.count == 2, d.rhsBatch.isEmpty, d.rhsContracting.count == 1 else { return nil }
      (rows, columns) = (d.rhsContracting[0], 1 - d.rhsContracting[0])
    default: return nil
    }
    let type = weight.elementType
    // Few rows read the weight where it lies; for many, packing is a small part.
    let m = x.elementCount / Swift.max(weight.shape[rows], 1)
    guard type == .float32 || type == .float64, m > 16, m <= 256 else { return nil }
    let (k, n) = (Int64(weight.shape[rows]), Int64(weight.shape[columns]))
    let bytes = TensorType([Int(apus_matmul_packed_size(type.code, k, n))], .uint8)
    guard bytes.shape.elementCount > 0 else { return nil }
    return Preparation(type: bytes) { weight, packed in
      apus_matmul_pack_b(
        type.code, k, n, weight.pointer, Int64(weight.strides[rows]), Int64(weight.strides[columns]), packed.pointer)
    }
  }

  private static func product(_ lhs: Side, _ rhs: Side, batch: Int, _ out: CPUArray, _ epilogue: Epilogue) {
    var p = apus_matmul()
    p.type = out.elementType.code
    p.out_type = out.elementType.code
    (p.m, p.k, p.n) = (Int64(lhs.rows), Int64(lhs.columns), Int64(rhs.columns))
    (p.a_row, p.a_col) = (Int64(lhs.rowStride), Int64(lhs.columnStride))
    (p.b_row, p.b_col) = (Int64(rhs.rowStride), Int64(rhs.columnStride))
    (p.c_row, p.c_col) = (p.n, 1)
    p.a = UnsafeRawPointer(lhs.array.pointer)
    p.b = UnsafeRawPointer(rhs.array.pointer)
    p.c = out.pointer
    if let bias = epilogue.bias {
      p.bias = UnsafeRawPointer(bias.pointer)
      p.bias_stride = Int64(bias.strides[bias.strides.count - 1])
    }
    if let activation = epilogue.activation { p.activation = activation.epilogue }
    if let residual = epilogue.residual {
      p.residual = UnsafeRawPointer(residual.pointer)
      p.residual_row = p.n
      p.residual_col = 1
      p.residual_after = epilogue.residualComesAfter ? 1 : 0
    }
    if let packed = epilogue.packed { p.packed_b = UnsafeRawPointer(packed.pointer) }
    // Batch dimensions: sizes of 1 are left out; what then exceeds the kernel's limit is looped over here.
    var dims: [(size: Int, a: Int, b: Int, c: Int)] = []
    var c = lhs.rows * rhs.columns
    for i in (0..<batch).reversed() where out.shape[i] != 1 {
      dims.insert((out.shape[i], lhs.array.strides[i], rhs.array.strides[i], c), at: 0)
      c *= out.shape[i]
    }
    run(&p, dims, lhs.array.elementType.byteSize)
  }

  private static func run(_ p: inout apus_matmul, _ dims: [(size: Int, a: Int, b: Int, c: Int)], _ bytes: Int) {
    if dims.count > Int(APUS_MATMUL_MAX_BATCH_RANK) {
      let outer = dims[0]
      let (a, b, c, residual) = (p.a, p.b, p.c, p.residual)
      for i in 0..<outer.size {
        p.a = a.map { $0 + i * outer.a * bytes }
        p.b = b.map { $0 + i * outer.b * bytes }
        p.c = c.map { $0 + i * outer.c * bytes }
        p.residual = residual.map { $0 + i * outer.c * bytes }
        run(&p, Array(dims.dropFirst()), bytes)
      }
      return
    }
    p.batch_rank = Int32(dims.count)
    for (i, d) in dims.enumerated() {
      withUnsafeMutableBytes(of: &p.batch) { $0.bindMemory(to: Int64.self)[i] = Int64(d.size) }
      withUnsafeMutableBytes(of: &p.a_batch) { $0.bindMemory(to: Int64.self)[i] = Int64(d.a) }
      withUnsafeMutableBytes(of: &p.b_batch) { $0.bindMemory(to: Int64.self)[i] = Int64(d.b) }
      withUnsafeMutableBytes(of: &p.c_batch) { $0.bindMemory(to: Int64.self)[i] = Int64(d.c) }
      if p.residual != nil {
        withUnsafeMutableBytes(of: &p.residual_batch) { $0.bindMemory(to: Int64.self)[i] = Int64(d.c) }
      }
    }
    apus_matmul_run(&p)
  }
}
