import ApusTensor

/// What is done differently from the plain loop: Keras's `compile` arguments and Lightning's knobs.
public struct TrainerOptions: Sendable {
  /// How many batches of an epoch are used.
  public enum Limit: Sendable, Equatable {
    case all
    case batches(Int)
    /// A share of them, at least one.
    case fraction(Double)

    func applied(to count: Int?) -> Int? {
      switch self {
      case .all: count
      case .batches(let limit): count.map { min($0, limit) } ?? limit
      case .fraction(let share): count.map { max(1, Int(Double($0) * share)) }
      }
    }
  }

  /// What gradients are limited to before the parameters change.
  public enum Clipping: Sendable, Hashable {
    /// Every element to −limit … limit.
    case value(Double)
    /// The norm of all gradients together.
    case norm(Double)
  }

  /// The type of what a model computes.
  public enum Precision: Sendable, Hashable {
    case float32
    /// Mixed precision: parameters and inputs are read as bfloat16.
    case bfloat16
    /// Mixed precision with dynamic loss scaling: gradients are those of the loss times a scale, which is halved where they are not
    /// finite (that step is left out) and doubled after 2,000 steps without that (Micikevicius et al. 2018).
    case float16

    var elementType: ElementType? {
      switch self {
      case .float32: nil
      case .bfloat16: .bfloat16
      case .float16: .float16
      }
    }
  }

  /// Operation by operation instead of one compiled program: slower, for looking into.
  public var runEagerly = false
  /// Every result is checked, and the operation that first makes a NaN stops the program with its name and place; implies
  /// ``runEagerly``.
  public var detectAnomaly = false
  /// Training ends with ``TrainingError/nonFiniteLoss(epoch:batch:step:value:)`` where the loss is no longer finite.
  public var stopsOnNonFiniteLoss = true
  /// Batches whose gradients are averaged for one change of the parameters.
  public var gradientAccumulation = 1
  public var clipping: Clipping?
  /// In what the model computes. Parameters, optimizer and loss stay float32.
  public var precision = Precision.float32
  /// How much the examples of each class count in the loss and in weighted metrics; 1 for classes that are not named.
  public var classWeights: [Int: Double]?

  public var limitTrainBatches = Limit.all
  public var limitValidationBatches = Limit.all
  public var limitTestBatches = Limit.all
  public var limitPredictBatches = Limit.all
  /// Trains and validates with the same few batches, in order: a model that is right can learn them by heart.
  public var overfitBatches: Limit?
  /// Runs this many batches of training and validation in one epoch, without checkpoints and stopping: does it run at all?
  public var fastDevRun: Int?

  public init() {}

  public init(_ change: (inout TrainerOptions) -> Void) { change(&self) }

  /// What decides the compiled programs.
  var program: [AnyHashable] {
    [runEagerly, detectAnomaly, clipping, classWeights, precision]
  }
}
