import ApusData
import ApusNN
import ApusTensor
import ApusTraining

/// A mean of absolute errors; the smallest metric there can be.
final class AbsoluteError: Metric {
  let total = Variable(Tensor.zeros([]))
  let count = Variable(Tensor.zeros([]))

  init(_ name: String = "error") { super.init(name: name) }

  override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
    let errors = abs(predictions - targets).reshaped([predictions.shape[0], -1]).mean(axis: 1)
    let weight = sampleWeight ?? Tensor.ones(errors.shape)
    total.value = total.value + (errors * weight).sum()
    count.value = count.value + weight.sum()
  }
  override func result() -> Tensor { total.value / maximum(count.value, Tensor(1e-12)) }
}

/// A straight line with noise: x [count, 3], y [count, 1].
func line(_ count: Int, seed: UInt64 = 1) -> TensorDataset {
  let generator = Generator(seed: seed)
  let x = Tensor.randn([count, 3], generator: generator)
  let y = x.matmul(Tensor([[1], [-2], [0.5]])) + 0.3 + Tensor.randn([count, 1], generator: generator) * 0.01
  return TensorDataset(x, y)
}

func smallModel(seed: UInt64 = 2, dropout: Double = 0) -> Sequential {
  let generator = Generator(seed: seed)
  return Sequential(
    Linear(3, 8, generator: generator), ReLU(), Dropout(dropout, generator: generator), Linear(8, 1, generator: generator))
}

/// Every parameter's and variable's bits.
func bits(_ module: Module) -> [String: [UInt32]] {
  module.state.mapValues { $0.elements(as: Float.self).map(\.bitPattern) }
}
