/// A record of a TensorBoard event file: what a run said at one time.
public struct Event: Sendable, Equatable {
  public enum Content: Sendable, Equatable {
    /// The first record of each file: `brain.Event:2`.
    case version(String)
    /// Values by their tags.
    case summaries([EventSummary])
    /// A program as a serialized TensorFlow `GraphDef`.
    case graph([UInt8])
    /// Something that Apus has no name for, such as run metadata.
    case other
  }

  /// Seconds since 1970.
  public var wallTime: Double
  public var step: Int
  public var content: Content

  public init(wallTime: Double, step: Int = 0, _ content: Content) {
    (self.wallTime, self.step, self.content) = (wallTime, step, content)
  }
}

/// One value under its tag, as in `loss/train`.
public struct EventSummary: Sendable, Equatable {
  public enum Value: Sendable, Equatable {
    case scalar(Float)
    case histogram(Histogram)
    case image(Image)
    case text([String])
    case audio(Audio)
    case hyperparameters(HyperparameterRecord)
    /// A value of a plugin that Apus has no type for.
    case other
  }

  public var tag: String
  public var value: Value
  /// TensorBoard's plugin by whose rules the value is shown; empty for the forms older than plugins.
  public var plugin: String

  public init(tag: String, _ value: Value, plugin: String = "") { (self.tag, self.value, self.plugin) = (tag, value, plugin) }

  /// Pictures as PNG files (other tools may write JPEG or GIF).
  public struct Image: Sendable, Equatable {
    public var width, height: Int
    public var files: [[UInt8]]

    public init(width: Int, height: Int, files: [[UInt8]]) { (self.width, self.height, self.files) = (width, height, files) }
  }

  /// Sound as a WAV file.
  public struct Audio: Sendable, Equatable {
    public var sampleRate: Float
    public var channels, frames: Int
    public var file: [UInt8]

    public init(sampleRate: Float, channels: Int, frames: Int, file: [UInt8]) {
      (self.sampleRate, self.channels, self.frames, self.file) = (sampleRate, channels, frames, file)
    }
  }
}

/// How many of a tensor's elements lie in which interval.
public struct Histogram: Sendable, Equatable {
  public struct Bucket: Sendable, Equatable {
    /// The interval's ends.
    public var lower, upper: Double
    public var count: Double

    public init(_ lower: Double, _ upper: Double, count: Double) { (self.lower, self.upper, self.count) = (lower, upper, count) }
  }

  public var buckets: [Bucket]
  public var minimum, maximum, sum, sumOfSquares: Double
  /// How many values there are.
  public var count: Double { buckets.reduce(0) { $0 + $1.count } }

  public init(buckets: [Bucket], minimum: Double, maximum: Double, sum: Double, sumOfSquares: Double) {
    self.buckets = buckets
    (self.minimum, self.maximum, self.sum, self.sumOfSquares) = (minimum, maximum, sum, sumOfSquares)
  }
}

/// The value of a hyper-parameter.
public enum Hyperparameter: Sendable, Equatable, ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, CustomStringConvertible
{
  case number(Double)
  case text(String)
  case flag(Bool)

  public init(floatLiteral value: Double) { self = .number(value) }
  public init(integerLiteral value: Int) { self = .number(Double(value)) }
  public init(stringLiteral value: String) { self = .text(value) }
  public init(booleanLiteral value: Bool) { self = .flag(value) }

  public var description: String {
    switch self {
    case .number(let value): value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
    case .text(let value): value
    case .flag(let value): "\(value)"
    }
  }
}

/// What the hyper-parameter plugin keeps of a run, in three records.
public enum HyperparameterRecord: Sendable, Equatable {
  /// What is varied, with the values seen, and the tags of the metrics that are compared.
  case experiment(parameters: [String: Hyperparameter], metrics: [String])
  /// This run's values.
  case start(parameters: [String: Hyperparameter], group: String, time: Double)
  case end(EndStatus, time: Double)

  public enum EndStatus: Int, Sendable { case unknown = 0, success, failure, running }
}
