import ApusTensor

/// Numbered examples that are read in batches.
public protocol Dataset: Sendable, TrainingData {
  /// What a batch is: often `(Tensor, Tensor)`, inputs and labels.
  associatedtype Batch: Sendable
  /// How many examples there are.
  var count: Int { get }
  /// The examples of these numbers, in this order. Called by several threads at once.
  func batch(_ indices: [Int]) throws -> Batch
}

/// A data set that is in memory, so that reading it cannot fail.
public protocol InMemoryDataset: Dataset {
  func batch(_ indices: [Int]) -> Batch
}

/// Inputs and labels held as tensors whose first dimension counts the examples.
public struct TensorDataset: InMemoryDataset {
  public let inputs: Tensor
  public let labels: Tensor

  /// - Parameters:
  ///   - inputs: [examples, …].
  ///   - labels: [examples, …].
  public init(_ inputs: Tensor, _ labels: Tensor) {
    precondition(
      inputs.rank > 0 && labels.rank > 0 && inputs.shape[0] == labels.shape[0],
      "TensorDataset: \(inputs.shape) and \(labels.shape) differ in their first dimension")
    self.inputs = inputs
    self.labels = labels
  }

  public var count: Int { inputs.shape[0] }

  public func batch(_ indices: [Int]) -> (Tensor, Tensor) {
    withoutGradient {
      let at = Tensor(elements: indices)
      return (inputs.rows(at), labels.rows(at))
    }
  }
}

/// Examples made one at a time, which a batch stacks.
public struct MappedDataset: Dataset {
  public let count: Int
  private let example: @Sendable (Int) throws -> (Tensor, Tensor)

  /// - Parameter example: input and label of one number; called by several threads at once.
  public init(count: Int, example: @escaping @Sendable (Int) throws -> (Tensor, Tensor)) {
    self.count = count
    self.example = example
  }

  public func batch(_ indices: [Int]) throws -> (Tensor, Tensor) {
    let examples = try indices.map(example)
    return (stack(examples.map(\.0)), stack(examples.map(\.1)))
  }
}

/// Images of 8 bits a channel with one class each: bytes in memory, float32 in 0 … 1 in batches.
public struct ImageClassificationDataset: InMemoryDataset {
  /// uint8 [examples, channels, height, width].
  public let images: Tensor
  /// int64 [examples].
  public let labels: Tensor
  public let classNames: [String]

  public init(images: Tensor, labels: Tensor, classNames: [String]) {
    precondition(
      images.rank == 4 && images.elementType == .uint8 && labels.rank == 1 && images.shape[0] == labels.shape[0],
      "ImageClassificationDataset: images \(images.type) and labels \(labels.type) do not fit")
    self.images = images
    self.labels = labels.converted(to: .int64)
    self.classNames = classNames
  }

  init(_ split: ImageClassificationData.Split, classNames: [String]) {
    self.init(
      images: Tensor(split.images, shape: [split.count, 1, split.rows, split.columns]),
      labels: Tensor(split.labels, shape: [split.count]), classNames: classNames)
  }

  public var count: Int { images.shape[0] }

  public func batch(_ indices: [Int]) -> (Tensor, Tensor) {
    withoutGradient {
      let at = Tensor(elements: indices)
      return (images.rows(at).converted(to: .float32) * (1 / 255.0), labels.rows(at))
    }
  }
}

extension ImageClassificationDataset {
  /// Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 60,000 images of clothing to train with and 10,000 to test, 28 × 28 grey.
  ///
  /// Found in `folder`, `$APUS_DATA`, the folder of Debian's package or the cache; else downloaded into the cache.
  public static func fashionMNIST(
    folder: String? = nil, progress: Download.Progress? = nil
  ) async throws -> (train: ImageClassificationDataset, test: ImageClassificationDataset) {
    try await load(.fashionMNIST, folder, progress)
  }

  /// MNIST (LeCun, Cortes and Burges): 60,000 handwritten digits to train with and 10,000 to test, 28 × 28 grey.
  public static func mnist(
    folder: String? = nil, progress: Download.Progress? = nil
  ) async throws -> (train: ImageClassificationDataset, test: ImageClassificationDataset) {
    try await load(.mnist, folder, progress)
  }

  private static func load(
    _ files: ImageClassificationFiles, _ folder: String?, _ progress: Download.Progress?
  ) async throws -> (train: ImageClassificationDataset, test: ImageClassificationDataset) {
    let data = try await files.load(folder: folder, progress: progress)
    return (
      ImageClassificationDataset(data.train, classNames: data.classNames),
      ImageClassificationDataset(data.test, classNames: data.classNames)
    )
  }
}
