import ApusTensor
import ApusTraining
import Testing

@Suite struct MetricTests {
  private final class Total: Metric {
    let total = Variable(Tensor.zeros([]))
    override func update(_ predictions: Tensor, _ targets: Tensor, sampleWeight: Tensor? = nil) {
      total.value = total.value + predictions.sum()
    }
    override func result() -> Tensor { total.value }
  }

  @Test func whatItGathersIsFoundAndForgotten() {
    let metric = Total(name: "total")
    let add = compile { (x: Tensor) in metric.update(x, x) }
    add(Tensor([1, 2, 3]))
    add(Tensor([4, 5, 6]))
    #expect(metric.result().item() == 21)
    #expect(metric.namedVariables.map(\.name) == ["total"])
    metric.reset()
    #expect(metric.result().item() == 0)
  }
}
