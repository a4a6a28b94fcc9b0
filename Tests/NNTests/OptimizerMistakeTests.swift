import ApusNN
import ApusTensor
import Testing

/// What optimizers and schedules say when they are used in a way that cannot work.
@Suite struct OptimizerMistakeTests {
  private func expect(
    _ result: ExitTest.Result?, says text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(printed.contains(text), "\(printed)", sourceLocation: sourceLocation)
  }

  @Test func lbfgsCannotBeTraced() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let w = Parameter(Tensor.ones([3]))
        let optimizer = LBFGS([w])
        let step = compile { (x: Tensor) -> Tensor in optimizer.step { (w.value * x).sum() } }
        _ = step(Tensor.ones([3]))
      }, says: "LBFGS: a step decides by values, so it cannot be part of a compiled function")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let w = Parameter(Tensor.ones([3]))
        LBFGS([w]).step(minimizing: w.value.sum())
      }, says: "LBFGS: needs the function, not only its value")
  }

  @Test func parametersThatDoNotFit() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Muon([Parameter(Tensor.ones([3]), name: "bias")])
      }, says: "Muon: takes matrices only, got bias: float32[3]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let w = Parameter(Tensor.ones([3]))
        _ = MultiOptimizer([SGD([w]), Adam([w])])
      }, says: "MultiOptimizer: a parameter is in it twice")
  }

  @Test func schedulesOwnTheLearningRate() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let optimizer = SGD([Parameter(Tensor.ones([3]))])
        optimizer.schedule = ExponentialLR(gamma: 0.9)
        optimizer.learningRate = 1
      }, says: "SGD: the learning rate follows a schedule")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = SequentialLR([ExponentialLR(gamma: 0.9)], milestones: [3])
      }, says: "SequentialLR: 1 schedules need one milestone less")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = PiecewiseConstantDecay(boundaries: [1, 2], values: [1])
      }, says: "PiecewiseConstantDecay: 2 boundaries need one value more, got 1")
  }

  @Test func averagesInThePlaceOfParameters() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let w = Parameter(Tensor.ones([3]))
        let optimizer = ScheduleFreeAdamW([w])
        optimizer.eval()
        optimizer.step(minimizing: w.value.sum())
      }, says: "ScheduleFreeAdamW: a step while the parameters are the averages; call train() first")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let average = ExponentialMovingAverage([Parameter(Tensor.ones([3]))])
        average.update()
        average.swap()
        average.update()
      }, says: "an update while the model holds the averages")
  }
}
