import Apus
import ApusExport
import ApusServables
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import NIOCore
import Testing

@testable import ApusServing

@Suite struct TensorFlowRoutesTests {
  /// The examples of TensorFlow Serving's guide to its REST API.
  @Test func answersTheGuidesExamples() async throws {
    try await withFakeRoutes(["half_plus_two"]) { client, journal in
      let row = try await client.post("/v1/models/half_plus_two:predict", #"{"instances": [1.0, 2.0, 5.0]}"#)
      #expect(row.status == 200 && row.text == "{\n    \"predictions\": [2.5, 3.0, 4.5\n    ]\n}")
      let column = try await client.post("/v1/models/half_plus_two:predict", #"{"inputs": {"x": [1.0, 2.0, 5.0]}}"#)
      #expect(column.status == 200 && squeezed(column.text) == #"{"outputs":[2.5,3.0,4.5]}"#)
      let plain = try await client.post("/v1/models/half_plus_two:predict", #"{"inputs": [1.0, 2.0, 5.0]}"#)
      #expect(plain.text == column.text)
      let named = try await client.post("/v1/models/half_plus_two:predict", #"{"instances": [{"x": 1.0}, {"x": 2}]}"#)
      #expect(squeezed(named.text) == #"{"predictions":[2.5,3.0]}"#)
      let type = try await client.response(.post, "/v1/models/half_plus_two:predict", #"{"instances": [1]}"#)
      #expect(type.headers[.contentType] == "application/json")
      #expect(
        journal.all.count == 5
          && journal.all.allSatisfy { $0.error == nil && $0.api == .tensorFlowREST && $0.model == "half_plus_two" })
    }
  }

  @Test func findsModelsByAnySpelling() async throws {
    try await withFakeRoutes(["half_plus_two"]) { client, _ in
      for path in [
        "/V1/MODELS/half_plus_two:Predict", "/v1/models/half%5Fplus%5ftwo:predict", "/v1/models/half_plus_two/versions/1:predict",
      ] {
        let answer = try await client.post(path, #"{"instances": [1]}"#)
        #expect(squeezed(answer.text) == #"{"predictions":[2.5]}"#, "\(path)")
      }
    }
  }

  @Test func specialNumbersGoBothWays() async throws {
    try await withFakeRoutes(["half_plus_two"]) { client, _ in
      let answer = try await client.post(
        "/v1/models/half_plus_two:predict", #"{"instances": [NaN, Infinity, -Infinity, 0.3, 1e10]}"#)
      #expect(squeezed(answer.text) == #"{"predictions":[NaN,Infinity,-Infinity,2.15,5e+09]}"#)
    }
  }

  @Test func severalInputsAndOutputs() async throws {
    try await withFakeRoutes(["pair"]) { client, _ in
      let row = try await client.post(
        "/v1/models/pair:predict", #"{"instances": [{"a": [1, 2], "b": 10}, {"b": 20, "a": [3, 4.5]}]}"#)
      #expect(
        squeezed(row.text) == #"{"predictions":[{"sum":[11.0,12.0],"count":11},{"sum":[23.0,24.5],"count":21}]}"#)
      #expect(
        row.text.hasPrefix(
          "{\n    \"predictions\": [\n        {\n            \"sum\": [11.0, 12.0],\n            \"count\": 11\n        },\n"))
      let column = try await client.post("/v1/models/pair:predict", #"{"inputs": {"b": [10, 20], "a": [[1, 2], [3, 4.5]]}}"#)
      #expect(squeezed(column.text) == #"{"outputs":{"sum":[[11.0,12.0],[23.0,24.5]],"count":[11,21]}}"#)
    }
  }

  @Test func bytesGoBothWays() async throws {
    try await withFakeRoutes(["bytes"]) { client, _ in
      let row = try await client.post("/v1/models/bytes:predict", #"{"instances": [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}]}"#)
      #expect(squeezed(row.text) == #"{"predictions":[{"b64":"aGVsbG8="},{"b64":"d29ybGQ="}]}"#)
      let named = try await client.post("/v1/models/bytes:predict", #"{"instances": [{"image": {"b64": "aGVsbG8="}}]}"#)
      #expect(squeezed(named.text) == #"{"predictions":[{"b64":"aGVsbG8="}]}"#)
      let column = try await client.post(
        "/v1/models/bytes:predict", #"{"inputs": {"image": [{"b64": "aGVsbG8"}, [119, 111, 114, 108, 100]]}}"#)
      #expect(squeezed(column.text) == #"{"outputs":[{"b64":"aGVsbG8="},{"b64":"d29ybGQ="}]}"#)
    }
  }

  @Test func signaturesByNameInAnyOrder() async throws {
    try await withFakeRoutes(["two"]) { client, _ in
      for (body, expected) in [
        (#"{"instances": [1.5]}"#, "[1.5]"), (#"{"signature_name": "double", "instances": [1.5]}"#, "[3.0]"),
        (#"{"instances": [1.5], "signature_name": "double"}"#, "[3.0]"),
        (#"{"instances": [true], "signature_name": "flags"}"#, "[true]"),
        (#"{"signature_name": "flags", "instances": [{"flag": false}]}"#, "[false]"),
        (#"{"instances": [1.5], "signature_name": ""}"#, "[1.5]"),
        (#"{"instances": [1.5], "signature_name": "serving_default"}"#, "[1.5]"),
        (#"{"other": {"x": [1]}, "instances": [1.5]}"#, "[1.5]"),
      ] {
        let answer = try await client.post("/v1/models/two:predict", body)
        #expect(squeezed(answer.text) == #"{"predictions":"# + expected + "}", "\(body)")
      }
    }
  }

  @Test func everyType() async throws {
    try await withFakeRoutes(["types"]) { client, _ in
      let answer = try await client.post(
        "/v1/models/types:predict",
        #"{"inputs": {"f16": [0.1], "bf16": [0.1], "f64": [0.1], "i8": [-128], "i16": [-32768], "i32": [-2147483648], "flag": [true]}}"#
      )
      #expect(
        squeezed(answer.text)
          == #"{"outputs":{"f16":[0.0999756],"bf16":[0.100098],"f64":[0.1],"i8":[-128],"i16":[-32768],"i32":[-2147483648],"flag":[true]}}"#
      )
    }
  }

  @Test(arguments: [
    ("half_plus_two", "", "JSON Parse error: The document is empty"), ("half_plus_two", "[1]", "Is not object"),
    ("half_plus_two", "{", "JSON Parse error"), ("half_plus_two", "{}", "Missing 'inputs' or 'instances' key"),
    ("half_plus_two", #"{"instances": [1], "inputs": [1]}"#, "expecting only one of 'inputs' or 'instances' keys to exist"),
    ("half_plus_two", #"{"inputs": [1], "instances": [1]}"#, "expecting only one of 'inputs' or 'instances' keys to exist"),
    ("half_plus_two", #"{"instances": 1}"#, "Expecting 'instances' to be an list/array"),
    ("half_plus_two", #"{"instances": []}"#, "No values in 'instances' array"),
    ("half_plus_two", #"{"instances": [1], "instances": [1]}"#, "occurs twice"),
    ("half_plus_two", #"{"signature_name": 1, "instances": [1]}"#, "'signature_name' key must be a string value."),
    (
      "half_plus_two", #"{"signature_name": "no", "instances": [1]}"#, "Serving signature name: \"no\" not found in signature def"
    ),
    (
      "half_plus_two", #"{"instances": [1], "signature_name": "no"}"#, "Serving signature name: \"no\" not found in signature def"
    ),
    ("half_plus_two", #"{"instances": ["a"]}"#, "input 'x': \"a\" at [0] is not a number"),
    ("half_plus_two", #"{"instances": [[1]]}"#, "must be float32[batch], got float32[1, 1]"),
    ("half_plus_two", #"{"instances": [1, [2]]}"#, "[ at [1] is not a number"),
    ("half_plus_two", #"{"instances": [1e999]}"#, "1e999 at [0] is too big"),
    ("half_plus_two", #"{"inputs": []}"#, "must be at least 1, got 0"),
    ("half_plus_two", #"{"inputs": {"z": [1]}}"#, "there is no input 'z'"),
    ("half_plus_two", #"{"inputs": {}}"#, "Missing named input: x in 'inputs' object."),
    ("half_plus_two", #"{"instances": [{"x": 1}, 2]}"#, "Expecting object but got list at item 1 of input list"),
    (
      "half_plus_two", #"{"instances": [{"z": 1}]}"#,
      "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: z"
    ),
    ("pair", #"{"instances": [1, 2]}"#, "instances is a plain list, but expecting list of objects"),
    ("pair", #"{"inputs": [1, 2]}"#, "inputs is a plain value/list, but expecting an object"),
    (
      "pair", #"{"instances": [{"a": [1, 2], "b": 1}, {"a": [1, 2]}]}"#,
      "Failed to process element: 1 of 'instances' list. JSON object: keys must be equal to: a,b"
    ),
    (
      "pair", #"{"instances": [{"a": [1, 2], "b": 1}, {"a": [1], "b": 1}]}"#,
      "element: 1 key: a of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [2] but got: [1]"
    ),
    ("pair", #"{"instances": [{"a": [1, 2], "b": 1.5}]}"#, "1.5 is not an integer, as int64 wants"),
    ("pair", #"{"inputs": {"a": [[1, 2]], "b": [1, 2]}}"#, "its dimension 0, 'batch', is 2, but 1 in 'a'"),
    ("pair", #"{"inputs": {"a": [[1, 2, 3]], "b": [1]}}"#, "the input 'a' must be float32[batch, 2], got float32[1, 3]"),
    ("bytes", #"{"instances": [{"b64": "!"}]}"#, "Unable to base64 decode"),
    ("bytes", #"{"instances": [[1, 256]]}"#, "256 at [0, 1] is not within uint8"),
    ("uneven", #"{"instances": [1, 2]}"#, "Tensor name: z has inconsistent batch size: 1 expecting: 2"),
  ])
  func refusesBadBodies(_ model: String, _ body: String, _ expected: String) async throws {
    try await withFakeRoutes([model]) { client, journal in
      let answer = try await client.post("/v1/models/\(model):predict", body)
      #expect(answer.status == 400)
      let object = try JSONSerialization.jsonObject(with: Data(answer.text.utf8)) as? [String: String]
      #expect(object?["error"]?.contains(expected) == true, "\(answer.text)")
      #expect(answer.text.hasPrefix("{\n    \"error\": \""))
      #expect(journal.all.count == 1)
    }
  }

  @Test func refusesWhatIsNotThere() async throws {
    try await withFakeRoutes(["half_plus_two"]) { client, _ in
      for (method, path, status, text) in [
        (HTTPRequest.Method.post, "/v1/models/no:predict", 404, "Servable not found for request: Latest(no)"),
        (.post, "/v1/models/half_plus_two/versions/9:predict", 404, "Servable not found for request: Specific(half_plus_two, 9)"),
        (.post, "/v1/models/half_plus_two/labels/beta:predict", 400, "Unrecognized servable version label: beta"),
        (.post, "/v1/models/%2e%2e%2fetc:predict", 404, "Servable not found for request: Latest(../etc)"),
        (.post, "/v1/models/half_plus_two:explain", 400, "Malformed request: POST /v1/models/half_plus_two:explain"),
        (.post, "/v1/models/half_plus_two", 400, "Malformed request: POST /v1/models/half_plus_two"),
        (.get, "/v1/models/half_plus_two:predict", 400, "Malformed request: GET /v1/models/half_plus_two:predict"),
        (.put, "/v1/models/half_plus_two", 400, "Malformed request: PUT /v1/models/half_plus_two"),
        (.get, "/v1/models", 400, "Missing model name in request."),
        (.get, "/v1/models/no", 404, "Could not find any versions of model no"),
        (.get, "/v1/models/half_plus_two/versions/9", 404, "Could not find version 9 of model half_plus_two"),
        (.get, "/v1/models/no/metadata", 404, "Servable not found for request: Latest(no)"),
      ] {
        let answer = try await client.send(method, path, method == .post ? #"{"instances": [1]}"# : nil)
        #expect(answer.status == status && answer.text == "{\n    \"error\": \"\(text)\"\n}", "\(path): \(answer)")
      }
    }
  }

  @Test func refusesTooLongBodies() async throws {
    try await withFakeRoutes(["half_plus_two"]) { client, _ in
      let body = "{\"instances\": [" + String(repeating: "1,", count: 600_000) + "1]}"
      let answer = try await client.post("/v1/models/half_plus_two:predict", body)
      #expect(answer.status == 429 || answer.status == 413)
    }
    try await withFakeRoutes(["half_plus_two"], change: { $0.maxRequestBytes = 16 }) { client, _ in
      #expect(try await client.post("/v1/models/half_plus_two:predict", #"{"instances": [1,2,3,4]}"#).status == 200)
      let answer = try await client.post("/v1/models/half_plus_two:predict", #"{"instances": [1,2,3,4,5]}"#)
      #expect(answer.status == 400 && answer.text.contains("more than 16 bytes"))
    }
  }

  @Test func saysWhenToComeBack() async throws {
    try await withFakeRoutes(["busy"]) { client, journal in
      let answer = try await client.response(.post, "/v1/models/busy:predict", #"{"instances": [1]}"#)
      #expect(answer.status.code == 503 && answer.headers[.retryAfter] == "2")
      #expect(journal.all.map(\.error?.code) == [.unavailable])
    }
  }

  @Test func statusAndMetadata() async throws {
    try await withFakeRoutes(["pair"]) { client, _ in
      let status = try await client.send(.get, "/v1/models/pair")
      #expect(
        squeezed(status.text)
          == #"{"model_version_status":[{"version":"1","state":"AVAILABLE","status":{"error_code":"OK","error_message":""}}]}"#)
      #expect(try await client.send(.get, "/v1/models/pair/versions/1").text == status.text)
      let metadata = try await client.send(.get, "/v1/models/pair/metadata")
      let object = try JSONSerialization.jsonObject(with: Data(metadata.text.utf8))
      #expect(value(object, "model_spec") as? [String: String] == ["name": "pair", "signature_name": "", "version": "1"])
      let signature = value(object, "metadata.signature_def.signature_def.serving_default")
      #expect(value(signature, "method_name") as? String == "tensorflow/serving/predict")
      #expect(value(signature, "inputs.a.dtype") as? String == "DT_FLOAT")
      #expect(
        value(signature, "inputs.a.tensor_shape.dim") as? [[String: String]]
          == [["size": "-1", "name": ""], ["size": "2", "name": ""]])
      #expect(value(signature, "inputs.a.tensor_shape.unknown_rank") as? Bool == false)
      #expect(value(signature, "outputs.count.dtype") as? String == "DT_INT64")
      #expect(value(object, "metadata.signature_def.signature_def.serve.inputs.b.dtype") as? String == "DT_INT64")
    }
  }

  @Test func saysWhyAModelIsNotThere() async throws {
    try await withFakeRoutes(["unknown"]) { client, _ in
      let status = try await client.send(.get, "/v1/models/unknown")
      #expect(
        status.status == 200 && status.text.contains(#""state": "END""#) && status.text.contains("there is no fake unknown"))
      #expect(status.text.contains(#""error_code": "FAILED_PRECONDITION""#))
      #expect(try await client.post("/v1/models/unknown:predict", #"{"instances": [1]}"#).status >= 400)
    }
  }

  @Test func answersAsKServe() async throws {
    try await withFakeRoutes(["half_plus_two", "pair"], answersAsKServe: true) { client, _ in
      let models = try await client.send(.get, "/v1/models")
      #expect(models.text == #"{"models":["half_plus_two","pair"]}"#)
      #expect(try await client.send(.get, "/v1/models/pair").text == #"{"name":"pair","ready":true}"#)
      #expect(try await client.send(.get, "/v1/models/no").status == 404)
      #expect(try await client.send(.get, "/v1/models/pair/versions/1").text.contains("model_version_status"))
      #expect(
        squeezed(try await client.post("/v1/models/half_plus_two:predict", #"{"instances": [1]}"#).text)
          == #"{"predictions":[2.5]}"#)
    }
  }

  @Test func classifies() async throws {
    try await withFakeRoutes(["iris"]) { client, _ in
      let answer = try await client.post(
        "/v1/models/iris:classify", #"{"examples": [{"x": [0.1, 0.7, 0.2], "other": "a"}, {"x": [1, 0, 0]}]}"#)
      #expect(
        squeezed(answer.text)
          == #"{"results":[[["setosa",0.1],["versicolor",0.7],["virginica",0.2]],[["setosa",1.0],["versicolor",0.0],["virginica",0.0]]]}"#
      )
      let context = try await client.post(
        "/v1/models/iris:classify",
        #"{"examples": [{}, {"x": [1, 2, 3]}], "context": {"x": [4, 5, 6]}, "signature_name": "serve"}"#)
      #expect(squeezed(context.text).contains(#"[["setosa",4.0],"#) && squeezed(context.text).contains(#"[["setosa",1.0],"#))
    }
    try await withFakeRoutes(["iris"], change: { $0.classLabels = ["a", "b"] }) { client, _ in
      let answer = try await client.post("/v1/models/iris:classify", #"{"examples": [{"x": [1, 2, 3]}]}"#)
      #expect(squeezed(answer.text) == #"{"results":[[["a",1.0],["b",2.0],["2",3.0]]]}"#)
    }
  }

  @Test func regresses() async throws {
    try await withFakeRoutes(["sum"]) { client, _ in
      let answer = try await client.post(
        "/v1/models/sum:regress", #"{"context": {"b": 10}, "examples": [{"a": [1, 2]}, {"a": [3, 4.5], "b": [1]}]}"#)
      #expect(answer.text == "{\n    \"results\": [13.0, 8.5]\n}")
    }
  }

  @Test(arguments: [
    ("iris:classify", "", "The document is empty"), ("iris:classify", "{}", "key 'examples' is expected and was not found"),
    ("iris:classify", #"{"examples": {}}"#, "Expecting 'examples' value to be an list/array"),
    ("iris:classify", #"{"examples": []}"#, "'examples' value is an empty array"),
    ("iris:classify", #"{"examples": [1]}"#, "Example must be JSON object but got JSON Number"),
    ("iris:classify", #"{"examples": [{}], "context": []}"#, "Example must be JSON object but got JSON Array"),
    ("iris:classify", #"{"examples": [{"y": 1}]}"#, "Feature: x is missing in the example 0"),
    ("iris:classify", #"{"examples": [{"x": [1, 2]}]}"#, "Feature: x has 2 elements"),
    ("iris:classify", #"{"examples": [{"x": [1, 2, 3]}, {"x": [1, 2]}]}"#, "Feature: x has 2 elements in the example 1, but 3"),
    ("iris:classify", #"{"examples": [{"x": [[1, 2, 3]]}]}"#, "Feature: x has element with unexpected JSON type: Array"),
    ("iris:classify", #"{"examples": [{"x": [1, null, 3]}]}"#, "null at [1] is not a number"),
    ("iris:classify", #"{"examples": [{"x": [1, 2, 3]}], "signature_name": "no"}"#, "not found in signature def"),
    ("pair:classify", #"{"examples": [{"a": [1, 2]}]}"#, "Feature: b is missing"),
    (
      "two:classify", #"{"examples": [{"flag": [true]}], "signature_name": "flags"}"#,
      "Expected classification signature outputs to contain"
    ),
    (
      "iris:regress", #"{"examples": [{"x": [1, 2, 3]}]}"#,
      "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]"
    ),
    ("uneven:regress", #"{"examples": [{"x": 1}]}"#, "No regression outputs found"),
    ("uneven:classify", #"{"examples": [{"x": 1}]}"#, "Expected classification signature outputs to contain"),
  ])
  func refusesBadExamples(_ path: String, _ body: String, _ expected: String) async throws {
    try await withFakeRoutes([String(path.split(separator: ":")[0])]) { client, _ in
      let answer = try await client.post("/v1/models/\(path)", body)
      #expect(answer.status == 400)
      let object = try JSONSerialization.jsonObject(with: Data(answer.text.utf8)) as? [String: String]
      #expect(object?["error"]?.contains(expected) == true, "\(answer.text)")
    }
  }

  /// Whatever the bytes are, there is an error or a request, and no trap.
  @Test func survivesChangedBytes() async throws {
    try await withFakes(["pair", "bytes", "iris"]) { context, _, _ in
      var random = SplitMix(seed: 5)
      for (name, text) in [
        ("pair", #"{"signature_name": "serve", "instances": [{"a": [1.5, -2e3], "b": 10}, {"b": 20, "a": [3, NaN]}]}"#),
        ("pair", #"{"inputs": {"b": [10, 20], "a": [[1, 2], [3, 4.5]]}}"#),
        ("bytes", #"{"instances": [{"image": {"b64": "aGVsbG8="}}, {"image": [1, 2, 3, 4, 5]}]}"#),
      ] {
        let model = try context.repository.model(name)
        var read = 0
        for _ in 0..<2_000 {
          var bytes = Array(text.utf8)
          for _ in 0..<Int.random(in: 1...2, using: &random) {
            let place = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<3, using: &random) {
            case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
            case 1: bytes.remove(at: place)
            default: bytes.insert(Array(#"[]{}",:0-eN\"#.utf8).randomElement(using: &random)!, at: place)
            }
          }
          do {
            _ = try PredictJSON.read(ByteBuffer(bytes: bytes), model, limits: context.limits)
            read += 1
          } catch {}
        }
        #expect(read > 0 && read < 2_000)
      }
      let iris = try context.repository.model("iris")
      for _ in 0..<2_000 {
        var bytes = Array(#"{"context": {"x": [4, 5, 6]}, "examples": [{"x": [1, 2.5, 3]}, {}]}"#.utf8)
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(truncatingIfNeeded: random.next())
        _ = try? ExamplesJSON.read(ByteBuffer(bytes: bytes), iris, limits: context.limits)
      }
    }
  }

  @Test func servesAnExportedModel() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-served-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder + "/mlp/3", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let model = Linear(4, 2)
    try export(model, input: ["x": .float32(["batch", 4])], to: folder + "/mlp/3/mlp.apus")
    let repository = ModelRepository()
    try await repository.reload([ModelConfiguration(name: "mlp", path: folder + "/mlp")])
    let expected = model(Tensor([1, 2, 3, 4, -1, 0.5, 0, 8] as [Float], shape: [2, 4])).floats
    let router = Router()
    TensorFlowRoutes(ServingContext(repository)).add(to: router)
    try await Application(router: router).test(.router) { client in
      let rest = RESTClient(client: client)
      let answer = try await rest.post("/v1/models/mlp/versions/3:predict", #"{"instances": [[1, 2, 3, 4], [-1, 0.5, 0, 8]]}"#)
      let object = try JSONSerialization.jsonObject(with: Data(answer.text.utf8)) as? [String: [[Double]]]
      #expect(object?["predictions"]?.flatMap { $0.map { Float($0) } } == expected, "\(answer)")
      #expect(try await rest.send(.get, "/v1/models/mlp").text.contains(#""version": "3""#))
    }
  }
}
