import Apus

// Optimizer steps alone: 10 million parameters as one tensor, or in as many tensors and sizes as ResNet-18 and more have.
// Bound by memory: AdamW reads 16 bytes per parameter (parameter, gradient, two moments) and writes 12, SGD with momentum 12 and 8.

extension Workload {
  private static func step(
    _ name: String, sizes: [Int], _ make: @escaping @Sendable ([Parameter]) -> Optimizer
  ) -> Workload {
    Workload(name: name, items: Double(sizes.reduce(0, +)), unit: "parameter/s") { mode in
      let generator = Generator(seed: 0)
      let parameters = sizes.map { Parameter(Tensor.randn([$0], generator: generator)) }
      let gradients = sizes.map { Tensor.randn([$0], generator: generator) }
      let optimizer = make(parameters)
      let program = mode.program { inputs in
        optimizer.step(Gradients(variables: parameters, values: inputs))
        return []
      }
      return { _ = program(gradients) }
    }
  }

  /// 10 million in 160 tensors: of four, one has 200,000, one 48,000 and two are small, as biases and norms are.
  private static let split: [Int] = (0..<160).map { [200_000, 48_000, 1_500, 500][$0 % 4] }

  static let optimizers: [Workload] = [
    step("adamw_10m", sizes: [10_000_000]) { AdamW($0) },
    step("adamw_10m_split", sizes: split) { AdamW($0) },
    step("sgd_momentum_10m", sizes: [10_000_000]) { SGD($0, momentum: 0.9) },
    step("lion_10m", sizes: [10_000_000]) { Lion($0, learningRate: 1e-4) },
    step("nadam_10m", sizes: [10_000_000]) { NAdam($0) },
    step("adafactor_10m_split", sizes: split) { Adafactor($0) },
  ]
}
