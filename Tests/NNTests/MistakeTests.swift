import ApusNN
import ApusTensor
import Testing

/// What a caller's mistake prints before the program stops.
@Suite struct MistakeTests {
  private func expect(
    _ result: ExitTest.Result?, says text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(printed.contains(text), "\(printed)", sourceLocation: sourceLocation)
  }

  @Test func wrongInputsNameTheLayer() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let net = Sequential {
          Flatten(); Linear(784, 128); ReLU(); Linear(64, 10)
        }
        _ = net.parameters
        _ = net(Tensor.zeros([32, 784]))
      }, says: "3 (Linear(64, 10)): the input of shape [32, 128] has 128 features, expected 64")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Conv2d(3, 8, kernelSize: 3)(Tensor.zeros([2, 1, 8, 8]))
      }, says: "Conv2d(3, 8, kernelSize: 3): the input of shape [2, 1, 8, 8] has 1 channels, expected 3")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = MaxPool2d(2)(Tensor.zeros([8, 8]))
      }, says: "MaxPool2d(2): takes 4 dimensions [batch, channels, …], got shape [8, 8]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = BatchNorm2d(3)(Tensor.zeros([1, 3, 1, 1]))
      }, says: "BatchNorm2d(3): needs more than one value per channel in training, got an input of shape [1, 3, 1, 1]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Adam(Sequential { Linear(10) }.parameters)
      }, says: "0: Linear(10) has no parameters before its first input; call the model, or build(input:)")
  }

  @Test func lossesRefuseShapesThatWouldBroadcast() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = mseLoss(Tensor.zeros([8, 1]), Tensor.zeros([8]))
      }, says: "mseLoss: the input has shape [8, 1], the target [8]; they must be the same")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = crossEntropy(Tensor.zeros([8, 10]), Tensor.zeros([8, 1], .int64))
      }, says: "crossEntropy: the target has shape [8, 1], expected [8] for an input of shape [8, 10]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = crossEntropy(Tensor.zeros([3, 10]), Tensor(elements: [1, 10, 2]))
      }, says: "label 10 at index 1 names no class; there are 10")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = nllLoss(Tensor.zeros([3, 10]), Tensor(elements: [1, 2, -1]))
      }, says: "nllLoss: label -1 at index 2 names no class; there are 10")
  }

  @Test func optimizersRefuseWhatCannotWork() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = SGD(Identity().parameters, learningRate: 0.1)
      }, says: "SGD: there are no parameters")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let p = Linear(1, 1).parameters
        _ = AdamW(p + p)
      }, says: "AdamW: a parameter is in it twice")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = SGD(Linear(1, 1).parameters, nesterov: true)
      }, says: "SGD: Nesterov's momentum needs a momentum above 0 and no dampening")
  }
}
