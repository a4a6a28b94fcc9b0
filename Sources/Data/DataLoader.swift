import ApusTensor
import Dispatch
import Synchronization

/// Batches of a data set, in an order that a seed decides, prepared ahead by worker threads.
///
/// Every pass over the loader is an epoch with an order of its own. The order depends on the seed and the
/// epoch alone: any number of workers gives the same batches in the same order.
///
/// ```swift
/// for (images, labels) in DataLoader(train, batchSize: 64, shuffle: true) { … }
/// ```
/// A data set whose reading can fail is iterated with `for try await … in loader.throwing`.
public final class DataLoader<Source: Dataset>: Sendable {
  public let dataset: Source
  public let batchSize: Int
  public let shuffle: Bool
  /// Whether a last batch of fewer examples is left out.
  public let dropLast: Bool
  /// Threads that prepare batches; 0: each is made when asked for.
  public let workers: Int
  /// Batches kept ready ahead of the reader.
  public let prefetch: Int
  public let seed: UInt64
  private let epochs: Lock<Int>

  /// - Parameters:
  ///   - batchSize: examples in a batch.
  ///   - shuffle: a new random order in each epoch, else the data set's own order.
  ///   - prefetch: batches kept ready ahead; by default two for each worker.
  public init(
    _ dataset: Source, batchSize: Int, shuffle: Bool = false, dropLast: Bool = false, workers: Int = 1, prefetch: Int? = nil,
    seed: UInt64 = 0
  ) {
    precondition(batchSize > 0, "DataLoader: the batch size \(batchSize) is not positive")
    precondition(workers >= 0, "DataLoader: \(workers) workers")
    self.dataset = dataset
    self.batchSize = batchSize
    self.shuffle = shuffle
    self.dropLast = dropLast
    self.workers = workers
    self.prefetch = Swift.max(1, prefetch ?? 2 * workers)
    self.seed = seed
    epochs = Lock(0)
  }

  /// Batches in an epoch.
  public var count: Int { dropLast ? dataset.count / batchSize : (dataset.count + batchSize - 1) / batchSize }

  /// The number of the next epoch; set it to repeat one or to go on from a checkpoint.
  public var epoch: Int {
    get { epochs.withLock { $0 } }
    set { epochs.withLock { $0 = newValue } }
  }

  /// The order of the examples in an epoch.
  public func order(epoch: Int) -> [Int] {
    guard shuffle else { return Array(0..<dataset.count) }
    let generator = ApusTensor.Generator(seed: seed)
    generator.state = .init(key: seed, counter: UInt64(epoch) << 40)  // epochs are far apart in the stream
    return Tensor.permutation(dataset.count, generator: generator).elements(as: Int.self)
  }

  fileprivate func begin() -> Batches<Source> {
    let epoch = epochs.withLock { epoch in
      defer { epoch += 1 }
      return epoch
    }
    return Batches(self, order(epoch: epoch))
  }

  /// The batches of an epoch from this one on, for a run that goes on in the middle of one; ``epoch`` is not changed.
  public func batches(epoch: Int, from batch: Int) -> () throws -> Source.Batch? {
    let batches = Batches(self, order(epoch: epoch), from: batch)
    return { try batches.next()?.get() }
  }
}

extension DataLoader: Sequence where Source: InMemoryDataset {
  public struct Iterator: IteratorProtocol {
    fileprivate let batches: Batches<Source>
    public mutating func next() -> Source.Batch? {
      // An in-memory data set's `batch` does not throw.
      switch batches.next() {
      case .success(let batch): batch
      case .failure, nil: nil
      }
    }
  }

  public func makeIterator() -> Iterator { Iterator(batches: begin()) }
  public var underestimatedCount: Int { count }
}

extension DataLoader {
  /// The batches of an epoch, for data sets whose reading can fail: the error ends the iteration.
  public var throwing: ThrowingBatches { ThrowingBatches(loader: self) }

  public struct ThrowingBatches: AsyncSequence {
    fileprivate let loader: DataLoader
    public func makeAsyncIterator() -> Iterator { Iterator(batches: loader.begin()) }

    public struct Iterator: AsyncIteratorProtocol {
      fileprivate let batches: Batches<Source>
      public mutating func next() async throws -> Source.Batch? {
        try Task.checkCancellation()
        return try batches.next()?.get()
      }
    }
  }
}

/// One epoch in the making. Workers take the next number, make its batch and put it in its place; the reader
/// takes them in order.
private final class Batches<Source: Dataset>: Sendable {
  private struct State {
    /// The number of the next batch that a worker takes.
    var nextToMake: Int
    var ready: [Int: Result<Source.Batch, any Error>] = [:]
    var stopped = false
  }

  private let shared: Shared
  private let position: Lock<Int>

  init(_ loader: DataLoader<Source>, _ order: [Int], from first: Int = 0) {
    position = Lock(first)
    shared = Shared(loader.dataset, order, loader.batchSize, first, loader.count, loader.workers > 0 ? loader.prefetch : 0)
    for _ in 0..<Swift.min(loader.workers, Swift.max(0, loader.count - first)) {
      let shared = self.shared
      DispatchQueue.global(qos: .userInitiated).async { shared.work() }
    }
  }

  deinit { shared.stop() }

  func next() -> Result<Source.Batch, any Error>? {
    let i = position.withLock { position in
      defer { position += 1 }
      return position
    }
    guard i < shared.count else { return nil }
    return shared.prefetch == 0 ? shared.make(i) : shared.take(i)
  }

  final class Shared: Sendable {
    let dataset: Source
    let order: [Int]
    let batchSize: Int
    let count: Int
    let prefetch: Int
    private let state: Lock<State>
    /// Room for batches that are not taken yet.
    private let room: DispatchSemaphore
    private let made = DispatchSemaphore(value: 0)

    init(_ dataset: Source, _ order: [Int], _ batchSize: Int, _ first: Int, _ count: Int, _ prefetch: Int) {
      self.dataset = dataset
      self.order = order
      self.batchSize = batchSize
      self.count = count
      self.prefetch = prefetch
      state = Lock(State(nextToMake: first))
      room = DispatchSemaphore(value: 0)
      for _ in 0..<prefetch { room.signal() }
    }

    func make(_ i: Int) -> Result<Source.Batch, any Error> {
      Result { try dataset.batch(Array(order[(i * batchSize)..<Swift.min((i + 1) * batchSize, order.count)])) }
    }

    func work() {
      while true {
        room.wait()
        let i = state.withLock { state -> Int? in
          guard !state.stopped && state.nextToMake < count else { return nil }
          defer { state.nextToMake += 1 }
          return state.nextToMake
        }
        guard let i else {
          room.signal()  // let the other workers see the end too
          return
        }
        let batch = make(i)
        state.withLock { $0.ready[i] = batch }
        made.signal()
      }
    }

    func take(_ i: Int) -> Result<Source.Batch, any Error> {
      while true {
        if let batch = state.withLock({ $0.ready.removeValue(forKey: i) }) {
          room.signal()
          return batch
        }
        made.wait()
      }
    }

    func stop() {
      state.withLock { $0.stopped = true }
      room.signal()
    }
  }
}
