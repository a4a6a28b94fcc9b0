import ApusIR
import CApusKernels

extension CPU {
  static func run(sequence: RecurrentSequence, _ inputs: [CPUArray], _ out: [CPUArray]) {
    let widened = Widened(inputs, out, weight: 1, rows: nil)
    let (x, results) = (widened.inputs, widened.results)
    let count = sequence.operandCount
    let mask = x.count > count ? x[count] : nil
    withExtendedLifetime(x) {
      var layer = layer(sequence, x[0].shape[0], x[0].shape[1], results[0].shape[2], x[1], mask)
      var f = apus_recurrent_forward()
      f.gates = UnsafeRawPointer(x[0].pointer)
      f.y = results[0].pointer
      f.h_out = results[1].pointer
      let kept = results.count > sequence.resultCount ? sequence.resultCount : nil
      if let kept { f.h_before = results[kept].pointer }
      switch sequence.kind {
      case .lstm:
        (f.h, f.c) = (UnsafeRawPointer(x[2].pointer), UnsafeRawPointer(x[3].pointer))
        f.c_out = results[2].pointer
        if let kept { (f.c_before, f.kept) = (results[kept + 1].pointer, results[kept + 2].pointer) }
      case .gru:
        (f.bias, f.h) = (UnsafeRawPointer(x[2].pointer), UnsafeRawPointer(x[3].pointer))
        if let kept { f.kept = results[kept + 1].pointer }
      case .tanh, .relu: f.h = UnsafeRawPointer(x[2].pointer)
      }
      apus_recurrent_run(&layer, &f)
    }
    widened.finish()
  }

  static func run(sequenceGradient sequence: RecurrentSequence, _ inputs: [CPUArray], _ out: [CPUArray]) {
    let weight = sequence.gradientWeight
    let widened = Widened(inputs, out, weight: weight, rows: 0)
    let (x, results) = (widened.inputs, widened.results)
    let count = sequence.gradientOperandCount
    let (dy, mask) = (x[0], x.count > count ? x[count] : nil)
    withExtendedLifetime(x) {
      var layer = layer(sequence, dy.shape[0], dy.shape[1], dy.shape[2], x[weight], mask)
      var g = apus_recurrent_gradient()
      g.dy = UnsafeRawPointer(dy.pointer)
      (g.dy_step, g.dy_row) = (Int64(dy.strides[0]), Int64(dy.strides[1]))
      g.dh_out = UnsafeRawPointer(x[1].pointer)
      g.dgates = results[0].pointer
      g.dh = results[results.count - 1].pointer
      switch sequence.kind {
      case .lstm:
        (g.dc_out, g.before, g.kept) = (
          UnsafeRawPointer(x[2].pointer), UnsafeRawPointer(x[4].pointer), UnsafeRawPointer(x[5].pointer)
        )
        (g.dh, g.dc) = (results[1].pointer, results[2].pointer)
      case .gru:
        (g.before, g.kept) = (UnsafeRawPointer(x[3].pointer), UnsafeRawPointer(x[4].pointer))
        g.dproduct = results[1].pointer
      case .tanh, .relu: g.kept = UnsafeRawPointer(x[3].pointer)
      }
      apus_recurrent_grad(&layer, &g)
    }
    widened.finish()
  }

  private static func layer(
    _ sequence: RecurrentSequence, _ steps: Int, _ batch: Int, _ hidden: Int, _ weight: CPUArray, _ mask: CPUArray?
  ) -> apus_recurrent {
    let kind: apus_recurrent_kind =
      switch sequence.kind {
      case .lstm: APUS_RECURRENT_LSTM
      case .gru: APUS_RECURRENT_GRU
      case .tanh: APUS_RECURRENT_TANH
      case .relu: APUS_RECURRENT_RELU
      }
    var r = apus_recurrent()
    r.kind = Int32(kind.rawValue)
    r.type = weight.elementType.code
    r.reverse = sequence.reverse
    (r.steps, r.batch, r.hidden) = (Int64(steps), Int64(batch), Int64(hidden))
    r.weight = UnsafeRawPointer(weight.pointer)
    (r.weight_row, r.weight_col) = (Int64(weight.strides[0]), Int64(weight.strides[1]))
    if let mask { r.mask = UnsafePointer(mask.pointer.assumingMemoryBound(to: UInt8.self)) }
    return r
  }
}

/// Operands and results as the kernel takes them: half precision in float32, rows in order but for a weight.
private struct Widened {
  let inputs, results: [CPUArray]
  private let out: [CPUArray]

  /// - Parameter rows: an operand [steps, batch, hidden] of which only the last dimension must be in order, if any. One number
  ///   that stands for all becomes a row that does.
  init(_ inputs: [CPUArray], _ out: [CPUArray], weight: Int, rows: Int?) {
    let half = out[0].elementType.byteSize == 2
    self.inputs = inputs.enumerated().map { i, x in
      let x = half && x.elementType != .bool ? CPU.convert(x, .float32) : x
      if i == weight { return x }
      guard i == rows else { return x.rowMajor() }
      let n = x.shape[2]
      if n <= 1 || x.strides[2] == 1 { return x }
      if x.elementCount > 0 && x.isOneValue {
        return CPU.broadcast(CPUArray(view: x, shape: [1, 1, n], strides: [0, 0, 0]).copy(), x.shape)
      }
      return x.rowMajor()
    }
    self.out = out
    results = half ? out.map { CPUArray(uninitialized: $0.shape, .float32) } : out
  }

  func finish() {
    for (wide, own) in zip(results, out) where wide.elementType != own.elementType { CPU.run(convert: wide, own) }
  }
}
