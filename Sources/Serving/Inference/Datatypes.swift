import ApusFormats
import ApusServables
import ApusServingProtocols
import ApusTensor

/// A type of elements as the Open Inference Protocol names it.
enum Datatype: Hashable, Sendable {
  case numbers(ElementType)
  /// Strings, which may fill a `uint8` input: the bytes of each become its last dimension.
  case bytes

  /// - Throws: ``ServingError``, `invalidArgument`: the name is unknown, or a type that no tensor here has.
  init(_ name: String, input: String) throws(ServingError) {
    switch name {
    case "BOOL": self = .numbers(.bool)
    case "UINT8": self = .numbers(.uint8)
    case "INT8": self = .numbers(.int8)
    case "INT16": self = .numbers(.int16)
    case "INT32": self = .numbers(.int32)
    case "INT64": self = .numbers(.int64)
    case "FP16": self = .numbers(.float16)
    case "BF16": self = .numbers(.bfloat16)
    case "FP32": self = .numbers(.float32)
    case "FP64": self = .numbers(.float64)
    case "BYTES": self = .bytes
    case "UINT16", "UINT32", "UINT64":
      throw ServingError(
        .invalidArgument, "inference input \(quoted(input)) has the data-type '\(name)', which no model here takes")
    default:
      throw ServingError(.invalidArgument, "inference input \(quoted(input)) has the unknown data-type \(quoted(name))")
    }
  }

  var name: String {
    switch self {
    case .numbers(let type): type.inferenceName
    case .bytes: "BYTES"
    }
  }
}

extension ElementType {
  /// The protocol's name: `FP32`.
  var inferenceName: String {
    switch self {
    case .bool: "BOOL"
    case .uint8: "UINT8"
    case .int8: "INT8"
    case .int16: "INT16"
    case .int32: "INT32"
    case .int64: "INT64"
    case .float16: "FP16"
    case .bfloat16: "BF16"
    case .float32: "FP32"
    case .float64: "FP64"
    }
  }

  /// The name in a model's configuration: `TYPE_FP32`.
  var configurationType: Inference_DataType {
    switch self {
    case .bool: .typeBool
    case .uint8: .typeUint8
    case .int8: .typeInt8
    case .int16: .typeInt16
    case .int32: .typeInt32
    case .int64: .typeInt64
    case .float16: .typeFp16
    case .bfloat16: .typeBf16
    case .float32: .typeFp32
    case .float64: .typeFp64
    }
  }
}

/// A name from a client for a message: in quotes, and tame.
func quoted(_ name: String) -> String { "'\(FormatError.excerpt(name))'" }

/// `[-1,16]`.
func listed(_ sizes: [Int]) -> String { "[" + sizes.map(String.init).joined(separator: ",") + "]" }
