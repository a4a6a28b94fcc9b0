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

  /// Two groups, two optimizers: each one's options are looked at, not only the first's.
  @Test func changedOptionsAreNoticed() {
    let (a, b) = (Parameter(Tensor.ones([3]) + 0), Parameter(Tensor.ones([3]) + 0))
    let c = Parameter(Tensor.ones([3]) + 0)
    let first = SGD([ParameterGroup([a]), ParameterGroup([b])], learningRate: 0.1, momentum: 0.5)
    let second = SGD([c], learningRate: 0.1, momentum: 0.5)
    let step = compile { (x: Tensor) -> Tensor in
      let loss = ((a.value + b.value + c.value) * x).sum()
      let gradients = loss.gradients(for: [a, b, c])
      first.step(gradients)
      second.step(gradients)
      return loss
    }
    let x = Tensor.ones([3])
    for _ in 0..<3 { _ = step(x) }
    #expect(step.report.traces.count == 1, "\(step.report)")
    first.groups[1].options.momentum = 0.9
    _ = step(x)
    #expect(step.report.traces.count == 2)
    second.groups[0].options.momentum = 0
    _ = step(x)
    #expect(step.report.traces.count == 3, "\(step.report)")
    #expect(step.report.traces[2].reason.contains("rule of SGD, group 0"))
  }

  /// A function that sets the mode by itself does not depend on the mode outside.
  @Test func modesSetInsideAreTheFunctionsOwn() {
    let model = Sequential(Linear(4, 4, generator: Generator(seed: 1)), Dropout(0.5, generator: Generator(seed: 2)))
    let x = Tensor.ones([2, 4])
    let infer = compile { (x: Tensor) -> Tensor in model.evaluating { model(x) } }
    for mode in [true, true, false, true] {
      model.train(mode)
      #expect(infer(x).floats == model.evaluating { model(x) }.floats)
    }
    #expect(infer.report.traces.count == 1, "\(infer.report)")
    // Read before and after, the mode outside counts.
    let both = compile { (x: Tensor) -> Tensor in model.evaluating { model(x) } + model(x) * 0 }
    for mode in [true, false, true] {
      model.train(mode)
      _ = both(x)
    }
    #expect(both.report.traces.count == 2, "\(both.report)")
    let training = compile { (x: Tensor) -> Tensor in
      model.train()
      return model(x)
    }
    for _ in 0..<3 {
      model.eval()
      _ = training(x)
    }
    #expect(training.report.traces.count == 1, "\(training.report)")
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

extension CompiledTrainingTests {
  /// A program that was traced where nothing is recorded still gives gradients where they are wanted.
  @Test func gradientsAfterACallWithoutThem() {
    let w = Parameter(Tensor([1, 2, 3]))
    let f = compile { (x: Tensor) -> Tensor in (w.value * x).sum() }
    let x = Tensor([4, 5, 6])
    withoutGradient { _ = f(x) }
    #expect(f(x).gradients(for: [w])[w]?.floats == [4, 5, 6])
    withoutGradient { _ = f(x) }
    #expect(f(x).gradients(for: [w])[w]?.floats == [4, 5, 6])
    #expect(f.report.traces.count == 1, "\(f.report)")
  }
}
