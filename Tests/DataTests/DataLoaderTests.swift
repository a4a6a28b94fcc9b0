import ApusData
import ApusTensor
import Testing

@Suite struct DataLoaderTests {
  /// Examples whose input and label are their own number.
  private func numbers(_ count: Int) -> TensorDataset {
    TensorDataset(Tensor.arange(count).reshaped([count, 1]).converted(to: .float32), Tensor.arange(count))
  }

  private func epoch(_ loader: DataLoader<TensorDataset>) -> [[Int]] { loader.map { $0.1.elements(as: Int.self) } }

  @Test func batchesCoverTheDataSetInOrder() {
    let loader = DataLoader(numbers(10), batchSize: 4)
    #expect(epoch(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]])
    #expect(loader.count == 3)
    let dropping = DataLoader(numbers(10), batchSize: 4, dropLast: true)
    #expect(epoch(dropping) == [[0, 1, 2, 3], [4, 5, 6, 7]])
    #expect(dropping.count == 2)
  }

  @Test func inputsGoWithTheirLabels() {
    for (x, y) in DataLoader(numbers(37), batchSize: 5, shuffle: true, workers: 3, seed: 4) {
      #expect(x.shape == [y.count, 1])
      #expect(x.flattened().elements(as: Int.self) == y.elements(as: Int.self))
    }
  }

  @Test func shufflingFollowsSeedAndEpoch() {
    let a = DataLoader(numbers(100), batchSize: 8, shuffle: true, seed: 7)
    let b = DataLoader(numbers(100), batchSize: 8, shuffle: true, seed: 7)
    let first = epoch(a)
    #expect(first == epoch(b))
    #expect(first.flatMap { $0 }.sorted() == Array(0..<100))
    let second = epoch(a)
    #expect(second != first)
    #expect(second.flatMap { $0 }.sorted() == Array(0..<100))
    let other = DataLoader(numbers(100), batchSize: 8, shuffle: true, seed: 8)
    #expect(epoch(other) != first)
    a.epoch = 0
    #expect(epoch(a) == first)
  }

  @Test(arguments: [0, 1, 2, 3, 8]) func anyNumberOfWorkersGivesTheSameOrder(workers: Int) {
    let expected = epoch(DataLoader(numbers(203), batchSize: 7, shuffle: true, workers: 0, seed: 3))
    #expect(epoch(DataLoader(numbers(203), batchSize: 7, shuffle: true, workers: workers, prefetch: 2, seed: 3)) == expected)
  }

  @Test func anEpochMayBeLeftEarly() {
    let loader = DataLoader(numbers(1000), batchSize: 2, workers: 3)
    for _ in 0..<20 {
      for (i, _) in loader.enumerated() where i == 3 { break }
    }
    #expect(loader.epoch == 20)
  }

  @Test func emptyDataSetsHaveNoBatches() {
    #expect(epoch(DataLoader(numbers(0), batchSize: 4, shuffle: true, workers: 2)).isEmpty)
  }

  private struct Unreadable: Error {}

  @Test func anErrorEndsTheIteration() async {
    let dataset = MappedDataset(count: 12) { i in
      if i == 7 { throw Unreadable() }
      return (Tensor(Double(i)), Tensor(i))
    }
    var seen = 0
    await #expect(throws: Unreadable.self) {
      for try await (x, _) in DataLoader(dataset, batchSize: 3, workers: 2).throwing {
        #expect(x.shape == [3])
        seen += 1
      }
    }
    #expect(seen == 2)
  }

  @Test func imagesComeAsFractionsOfWhite() {
    let pixels = Tensor([UInt8](0..<255) + [255], shape: [4, 1, 8, 8])
    let dataset = ImageClassificationDataset(images: pixels, labels: Tensor([UInt8(3), 1, 2, 0], shape: [4]), classNames: [])
    let (images, labels) = dataset.batch([3, 0])
    #expect(images.shape == [2, 1, 8, 8] && images.elementType == .float32)
    #expect(images.floats[63] == 1 && images.floats[64] == 0)
    #expect(labels.elements(as: Int.self) == [0, 3])
  }
}
