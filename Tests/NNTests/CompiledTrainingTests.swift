import ApusNN
import ApusTensor
import Testing

/// Whole training steps as one program: the same parameters, bit for bit, as when they run operation by operation.
@Suite struct CompiledTrainingTests {
  private func network() -> Sequential {
    // A generator of its own: other tests draw from the default one meanwhile.
    let random = Generator(seed: 7)
    return Sequential(
      Conv2d(3, 8, kernelSize: 3, padding: 1, generator: random), BatchNorm2d(8), ReLU(), MaxPool2d(2),
      Dropout(0.3, generator: random), Flatten(), Linear(8 * 16, 10, generator: random))
  }

  private func train(_ make: ([Parameter]) -> Optimizer, compiled: Bool) -> (losses: [Float], values: [String: [Float]]) {
    let model = network()
    let optimizer = make(model.parameters)
    let x = Tensor.randn([4, 3, 8, 8], generator: Generator(seed: 1))
    let labels = Tensor.integers(0..<10, [4], generator: Generator(seed: 2))
    func plain(_ x: Tensor, _ labels: Tensor) -> Tensor {
      let loss = crossEntropy(model(x), labels)
      optimizer.step(minimizing: loss)
      return loss
    }
    let program = compile { (x: Tensor, labels: Tensor) -> Tensor in plain(x, labels) }
    var losses: [Float] = []
    for i in 0..<5 {
      if i == 3 { optimizer.learningRate *= 0.1 }
      losses.append((compiled ? program(x, labels) : plain(x, labels)).item())
    }
    if compiled { #expect(program.report.traces.count == 1, "\(program.report)") }
    var values: [String: [Float]] = [:]
    for (name, variable) in model.namedVariables { values[name] = variable.value.floats }
    for (name, variable) in optimizer.state { values["optimizer " + name] = variable.value.floats }
    return (losses, values)
  }

  @Test(arguments: 0..<5) func compiledStepsAreEagerSteps(_ which: Int) {
    let make: ([Parameter]) -> Optimizer = [
      { SGD($0, learningRate: 0.05) }, { SGD($0, learningRate: 0.05, momentum: 0.9, weightDecay: 1e-3, nesterov: true) },
      { Adam($0, learningRate: 1e-2, amsgrad: true) }, { AdamW($0, learningRate: 1e-2) },
      { RMSprop($0, learningRate: 1e-3, momentum: 0.9, centered: true) },
    ][which]
    let (eager, compiled) = (train(make, compiled: false), train(make, compiled: true))
    #expect(eager.losses == compiled.losses)
    #expect(eager.values.keys.sorted() == compiled.values.keys.sorted())
    for (name, values) in eager.values {
      let same = values == compiled.values[name]
      #expect(same, "\(name)")
    }
  }
}
