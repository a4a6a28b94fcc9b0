import ApusNN
import ApusTensor
import Testing

/// What the layers say of an input that does not fit, by family.
@Suite struct LayerMistakeTests {
  private func expect(
    _ result: ExitTest.Result?, says text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(printed.contains(text), "\(printed)", sourceLocation: sourceLocation)
  }

  @Test func tensorFunctionsInsideOfALayerNameItByPath() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let net = Sequential {
          Conv2d(1, 2, kernelSize: 3); MaxPool2d(2); Conv2d(2, 2, kernelSize: 5); Flatten(from: 4)
        }
        _ = net.parameters
        _ = net(Tensor.zeros([1, 1, 8, 8]))
      }, says: "Apus: 2 (Conv2d(2, 2, kernelSize: 5)): convolution: ")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Softmax(axis: 3)(Tensor.zeros([2, 3]))
      }, says: "Apus: Softmax(axis: 3): softmax: axis 3 does not exist")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        final class Net: Module {
          let embed = Embedding(5, 2)
          func callAsFunction(_ x: Tensor) -> Tensor { embed(x) }
        }
        let net = Net()
        _ = net.parameters
        _ = net(Tensor(elements: [1, 7]))
      }, says: "Apus: embed (Embedding(5, 2)): ")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Linear(3, 2)(Tensor.zeros([1, 3]))
        _ = Tensor.zeros([2]) + Tensor.zeros([3])
      }, says: "Apus: add: shapes [2] and [3] do not broadcast to one")
  }

  @Test func paddingResolutionAndPooling() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let net = Sequential { ReflectionPad2d(3) }
        _ = net.parameters
        _ = net(Tensor.zeros([1, 2, 3, 8]))
      },
      says: "0 (ReflectionPad2d(3)): pad: mode .reflect takes 0 to 2 elements for dimension 2 of shape [1, 2, 3, 8], got 3 and 3")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Upsample(scaleFactor: 2, mode: .bilinear)(Tensor.zeros([1, 2, 3]))
      },
      says:
        "Upsample(scaleFactor: 2.0, mode: .bilinear): interpolate: mode .bilinear is for 2 spatial dimensions, got shape [1, 2, 3]"
    )
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Unfold(4)(Tensor.zeros([1, 2, 3, 8]))
      }, says: "Unfold(4): unfold: a kernel of size [4, 4] with dilation [1, 1] does not fit size [3, 8] with padding [0, 0]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = GlobalAvgPool2d()(Tensor.zeros([2, 3, 4]))
      }, says: "GlobalAvgPool2d(): takes 4 dimensions [batch, channels, …] with elements, got shape [2, 3, 4]")
  }

  @Test func denseLayersAndEmbeddings() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let layer = EinsumDense("abc,cd->abd", outputShape: [nil, 5])
        _ = layer(Tensor.zeros([2, 3, 4]))
        _ = layer(Tensor.zeros([2, 3, 6]))
      }, says: "dimension \"c\" of the input of shape [2, 3, 6] is 6, expected 4")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = EmbeddingBag(4, 2)(Tensor(elements: [1, 2, 3]), offsets: Tensor(elements: [1, 2]))
      }, says: "EmbeddingBag(4, 2, mode: .mean): the first bag begins at 0, got 1")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs: [3, 7])(Tensor.zeros([2, 8]), Tensor(elements: [1, 12]))
      }, says: "AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs: [3, 7]): target 12 at index 1 names no class; there are 12")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = SeparableConv2d(3, 4, kernelSize: 3)(Tensor.zeros([2, 5, 8, 8]))
      }, says: "the input of shape [2, 5, 8, 8] has 5 channels, expected 3")
  }

  @Test func merging() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Add()(Tensor.zeros([2, 3]), Tensor.zeros([2, 4]))
      }, says: "Add(): shapes [2, 3], [2, 4] do not broadcast to one")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = Dot(axes: 1)(Tensor.zeros([2, 3]), Tensor.zeros([2, 4]))
      }, says: "Dot(axes: (1, 1)): axes 1 and 1 of shapes [2, 3], [2, 4] are no dimensions of equal size after the batch")
  }
}
