import ApusNN
import ApusTensor
import Testing

/// What mistakes with losses print before the program stops.
@Suite struct MoreLossMistakeTests {
  private func expect(
    _ result: ExitTest.Result?, says text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(printed.contains(text), "\(printed)", sourceLocation: sourceLocation)
  }

  /// Every loss of a pair refuses what would broadcast, with its name and both shapes.
  @Test func pairsOfOtherShapesAreRefused() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = hingeLoss(Tensor.zeros([8, 1]), Tensor.zeros([8]))
      }, says: "hingeLoss: the input has shape [8, 1], the target [8]; they must be the same")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = klDivLoss(Tensor.zeros([8, 3]), Tensor.zeros([3]))
      }, says: "klDivLoss: the input has shape [8, 3], the target [3]; they must be the same")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = marginRankingLoss(Tensor.zeros([8]), Tensor.zeros([8]), Tensor.zeros([8, 1]))
      }, says: "marginRankingLoss: input1 has shape [8], target [8, 1]; they must be the same")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = tripletMarginLoss(Tensor.zeros([8, 2]), Tensor.zeros([8, 2]), Tensor.zeros([1, 2]))
      }, says: "tripletMarginLoss: anchor has shape [8, 2], negative [1, 2]; they must be the same")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = gaussianNLLLoss(Tensor.zeros([8, 2]), Tensor.zeros([8, 2]), Tensor.ones([1, 2]))
      }, says: "gaussianNLLLoss: variance has shape [1, 2], expected the input's [8, 2]")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = cosineEmbeddingLoss(Tensor.zeros([8, 2]), Tensor.zeros([8, 2]), Tensor.ones([8, 1]))
      }, says: "got inputs of shape [8, 2], a target of shape [8, 1]")
  }

  @Test func labelsOutOfRangeAreNamedWithTheirIndex() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = multiMarginLoss(Tensor.zeros([3, 4]), Tensor(elements: [1, -1, 2]))
      }, says: "multiMarginLoss: label -1 at index 1 names no class; there are 4")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = sparseCategoricalCrossEntropy(Tensor.ones([2, 4]), Tensor(elements: [1, 4]))
      }, says: "sparseCategoricalCrossEntropy: label 4 at index 1 names no class; there are 4")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = multiLabelMarginLoss(Tensor.zeros([1, 3]), Tensor([[1, 5, -1]], .int64))
      }, says: "multiLabelMarginLoss: label 5 at index 1 names no class; there are 3")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = ctcLoss(
          Tensor.zeros([4, 2, 3]), Tensor([[1, 2], [2, 7]], .int64), inputLengths: Tensor(elements: [4, 4]),
          targetLengths: Tensor(elements: [2, 2]))
      }, says: "ctcLoss: label 7 at index 1 of sample 1 names no class; there are 3")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        _ = ctcLoss(
          Tensor.zeros([4, 2, 3]), Tensor([[1, 2], [2, 1]], .int64), inputLengths: Tensor(elements: [4, 5]),
          targetLengths: Tensor(elements: [2, 2]))
      }, says: "ctcLoss: input length 5 at index 1 is not in 0 … 4")
  }

  /// A compiled function cannot look at labels while it is traced; its kernels do when it runs.
  @Test func compiledFunctionsStopOverLabelsThatNameNoClass() async {
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let f = compile { (x: Tensor, t: Tensor) in nllLoss(x, t) }
        _ = f(Tensor.zeros([3, 4]), Tensor(elements: [1, -1, 2]))
      }, says: "out of range")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let f = compile { (x: Tensor, t: Tensor) in crossEntropy(x, t) }
        _ = f(Tensor.zeros([3, 4]), Tensor(elements: [1, -1, 2]))
      }, says: "label -1 at index 1 names no class; there are 4")
  }
}
