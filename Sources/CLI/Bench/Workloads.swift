import Apus
import ApusCPU
import CApusKernels
import Synchronization

/// One thing to measure: `build` makes the inputs and returns the step.
struct Workload: Sendable {
  /// Whether compiled programs report on themselves after every call.
  static let reports = Atomic<Bool>(false)

  /// How a step runs.
  enum Mode: String, Sendable {
    /// Operation by operation.
    case eager
    /// As one compiled program.
    case compiled

    /// `f` as this mode runs it.
    func program(_ f: @escaping ([Tensor]) -> [Tensor]) -> ([Tensor]) -> [Tensor] {
      switch self {
      case .eager: return f
      case .compiled:
        let program = compile { (inputs: [Tensor]) -> [Tensor] in f(inputs) }
        return {
          let results = program($0)
          if Workload.reports.load(ordering: .relaxed) { print(program.report) }
          return results
        }
      }
    }
  }

  let name: String
  /// What a step yields, in `unit`.
  let items: Double
  let unit: String
  /// Whether there is a compiled form; single operations and their dispatch have none.
  let isProgram: Bool
  let build: @Sendable (Mode) -> () -> Void

  init(name: String, items: Double, unit: String, build: @escaping @Sendable (Mode) -> () -> Void) {
    (self.name, self.items, self.unit, self.build) = (name, items, unit, build)
    isProgram = true
  }

  /// Single operations, which run as they are.
  init(operation name: String, items: Double, unit: String, build: @escaping @Sendable () -> () -> Void) {
    (self.name, self.items, self.unit) = (name, items, unit)
    self.build = { _ in build() }
    isProgram = false
  }

  static func named(_ name: String) -> Workload? { all.first { $0.name == name } }

  static let all: [Workload] =
    [Workload(operation: "peak", items: 1, unit: "", build: { {} })] + overhead + rows + products + quantized + convolutions
    + training + trainerOverhead + optimizers
    + inference + decoding
}

// MARK: Dispatch: 1,000 chained additions of 16 floats

extension Workload {
  private static let overhead: [Workload] = [
    Workload(operation: "op_overhead", items: 1000, unit: "op/s") {
      let x = Tensor.randn([16], generator: Generator(seed: 0))
      return {
        var y = x
        withoutGradient { for _ in 0..<1000 { y = y + x } }
      }
    },
    Workload(operation: "op_overhead_tape", items: 1000, unit: "op/s") {
      let parameter = Parameter(Tensor.randn([16], generator: Generator(seed: 0)))
      let x = parameter.value
      return {
        var y = x
        for _ in 0..<1000 { y = y + x }
      }
    },
    Workload(operation: "op_overhead_grad", items: 1000, unit: "op/s") {
      let parameter = Parameter(Tensor.randn([16], generator: Generator(seed: 0)))
      let x = parameter.value
      return {
        var y = x
        for _ in 0..<1000 { y = y + x }
        _ = y.sum().gradients(for: [parameter])
      }
    },
  ]
}

// MARK: Rows of [4096, 1024]: bound by memory

extension Workload {
  private static func rowWorkload(_ name: String, _ f: @escaping @Sendable (Tensor, Tensor, Tensor) -> Tensor) -> Workload {
    Workload(name: name, items: 4096 * 1024, unit: "elem/s") { mode in
      let x = Tensor.randn([4096, 1024], generator: Generator(seed: 0))
      let a = Tensor.randn([1024], generator: Generator(seed: 1))
      let b = Tensor.randn([1024], generator: Generator(seed: 2))
      let program = mode.program { [f($0[0], $0[1], $0[2])] }
      return { withoutGradient { _ = program([x, a, b]) } }
    }
  }

  private static let rows: [Workload] = [
    rowWorkload("elementwise_chain") { x, a, b in
      let t = gelu(x * a + b) * sigmoid(x)
      return t - t.mean(axis: -1, keepDims: true)
    },
    rowWorkload("softmax") { x, _, _ in softmax(x) },
    rowWorkload("layernorm") { x, a, b in layerNorm(x, normalizedShape: [1024], weight: a, bias: b) },
  ]
}

// MARK: Square matrix products

extension Workload {
  private static let products: [Workload] = [
    (256, ElementType.float32, "f32"), (1024, .float32, "f32"), (2048, .float32, "f32"), (1024, .bfloat16, "bf16"),
  ].map { n, type, tag in
    Workload(operation: "matmul_\(tag)_\(n)", items: 2 * Double(n * n * n), unit: "flop/s") {
      let a = Tensor.randn([n, n], generator: Generator(seed: 0)).converted(to: type)
      let b = Tensor.randn([n, n], generator: Generator(seed: 1)).converted(to: type)
      return { withoutGradient { _ = a.matmul(b) } }
    }
  }
}

// MARK: Linear layers in int8, the weight prepared; "dynamic" quantizes a float32 input first, "decode" is one row

extension Workload {
  private static let quantized: [Workload] = [
    ("linear_i8_1024", 1024, 1024), ("linear_i8_dynamic_1024", 1024, 1024), ("linear_i8_decode", 1, 4096),
    ("linear_i8_dynamic_decode", 1, 4096),
  ].map { name, rows, n in
    Workload(operation: name, items: 2 * Double(rows * n * n), unit: "op/s") {
      let x = Tensor.randn([rows, n], generator: Generator(seed: 0))
      let weight = quantizeWeight(Tensor.randn([n, n], generator: Generator(seed: 1))).prepared()
      let bias = Tensor.randn([n], generator: Generator(seed: 2))
      if name.contains("dynamic") { return { withoutGradient { _ = dynamicallyQuantizedLinear(x, weight, bias) } } }
      let q = quantizeDynamically(x)
      return { withoutGradient { _ = quantizedLinear(q, weight, bias) } }
    }
  }
}

// MARK: 3 × 3 convolutions, padding 1, no bias; "bwd" is forward and both gradients

extension Workload {
  private static let convolutions: [Workload] = [
    ("64_56", [32, 64, 56, 56], 64, 1), ("256_14", [32, 256, 14, 14], 256, 1), ("dw128_28", [32, 128, 28, 28], 128, 128),
  ].flatMap { (tag: String, shape: [Int], out: Int, groups: Int) -> [Workload] in
    let flops = 2 * Double(shape[0] * shape[2] * shape[3] * out * (shape[1] / groups) * 9)
    return ["fwd", "bwd"].map { mode in
      Workload(operation: "conv_\(tag)_\(mode)", items: mode == "fwd" ? flops : 3 * flops, unit: "flop/s") {
        // Held as a convolution's results are held: channels-last in memory.
        let x = Tensor.randn(Shape(shape), generator: Generator(seed: 0)).inChannelsLast()
        let k = Tensor.randn([out, shape[1] / groups, 3, 3], generator: Generator(seed: 1)) * 0.05
        if mode == "fwd" { return { withoutGradient { _ = conv2d(x, k, padding: 1, groups: groups) } } }
        let dy = Tensor.randn([shape[0], out, shape[2], shape[3]], generator: Generator(seed: 2)).inChannelsLast()
        return {
          let (_, pull) = vjp(at: [x, k]) { [conv2d($0[0], $0[1], padding: 1, groups: groups)] }
          _ = pull([dy])
        }
      }
    }
  }
}
