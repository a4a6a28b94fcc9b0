import ApusFormats
import ApusServables
import ApusServingProtocols
import SwiftProtobuf

/// Reads the requests that TensorFlow Serving records for warming models up.
public enum WarmUpLogs {
  /// The request of a `PredictionLog`, one record of `assets.extra/tf_serving_warmup_requests`: of `predict`, `classify` or `regress`.
  /// Which model and version it was recorded from does not matter.
  /// - Parameters:
  ///   - log: the record's bytes.
  ///   - servable: the model that will be asked.
  /// - Throws: ``ServingError``: `invalidArgument` if it is no such message or not a request that the model takes, `unimplemented` if it
  ///   is a log of another kind.
  public static func request(_ log: UnsafeRawBufferPointer, for servable: any Servable) throws(ServingError) -> InferenceRequest {
    func part(_ message: UnsafeRawBufferPointer, _ fields: Set<Int>) throws(ServingError) -> (
      field: Int, bytes: UnsafeRawBufferPointer
    )? {
      var found: (Int, UnsafeRawBufferPointer)?
      do throws(FormatError) {
        var reader = ProtobufReader(message, file: "PredictionLog")
        while let (field, value) = try reader.next() {
          if fields.contains(field), let bytes = value.bytes { found = (field, bytes) }
        }
      } catch { throw ServingError(.invalidArgument, error.description) }
      return found
    }
    // classify_log, regress_log, multi_inference_log, predict_log, predict_streamed_log; each has its request as field 1.
    guard let kind = try part(log, [2, 3, 4, 6, 7]) else {
      throw ServingError(.invalidArgument, "PredictionLog: there is no request in it")
    }
    let request = try part(kind.bytes, [1])?.bytes ?? UnsafeRawBufferPointer(start: nil, count: 0)
    switch kind.field {
    case 2, 3:
      let (spec, input): (Tensorflow_Serving_ModelSpec, Tensorflow_Serving_Input)
      do {
        if kind.field == 2 {
          let message = try Tensorflow_Serving_ClassificationRequest(serializedBytes: Array(request))
          (spec, input) = (message.modelSpec, message.input)
        } else {
          let message = try Tensorflow_Serving_RegressionRequest(serializedBytes: Array(request))
          (spec, input) = (message.modelSpec, message.input)
        }
      } catch { throw ServingError(.invalidArgument, "PredictionLog: \(error)") }
      let (name, signature) = try servable.tensorFlowSignature(spec.signatureName)
      return InferenceRequest(signature: name, inputs: try input.tensors(for: signature).inputs)
    case 6:
      let message: PredictMessage
      do throws(FormatError) { message = try PredictMessage(request, limits: ServingLimits()) } catch {
        throw ServingError(.invalidArgument, error.description)
      }
      return try message.request(for: servable, maxRequestBytes: 1 << 30)
    default: throw ServingError(.unimplemented, "PredictionLog: only predict, classify and regress are used for warming up")
    }
  }
}
