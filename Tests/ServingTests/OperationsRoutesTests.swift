import ApusFormats
import ApusServables
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import NIOCore
import Testing

@testable import ApusServing

@Suite struct OperationsRoutesTests {

  private func withServer(_ body: @escaping @Sendable (any TestClientProtocol, ServingContext) async throws -> Void) async throws
  {
    try await withFakes(["half_plus_two", "busy"]) { (shared, _, _) in
      let context = ServingContext(shared.repository, limits: shared.limits)
      let router = Router()
      ModelServer(context).add(to: router)
      try await Application(router: router).test(.router) { client in try await body(client, context) }
    }
  }

  private func object(_ response: TestResponse) throws -> JSONObject {
    let value = try JSONValue(parsing: Array(buffer: response.body), file: "answer")
    return try #require(value.object)
  }

  @Test func thePageIsWholeAndLocked() async throws {
    try await withServer { client, _ in
      for file in StatusPage.files {
        for path in file.paths {
          let answer = try await client.execute(uri: path, method: .get)
          #expect(answer.status == .ok, "\(path)")
          #expect(answer.headers[.contentType] == file.type)
          let policy = answer.headers[.contentSecurityPolicy] ?? ""
          #expect(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "\(path)")
          #expect(answer.headers[.xContentTypeOptions] == "nosniff")
          let text = String(buffer: answer.body)
          // What the page names is there, and nothing is from elsewhere.
          for match in text.matches(of: /(?:src|href)="(status\/[^"]+)"|from "\.\/([^"]+)"/) {
            let name = match.1.map(String.init) ?? "status/\(match.2 ?? "")"
            #expect(StatusPage.isFile(path: "/" + name), "\(path) names \(name)")
          }
          #expect(!text.replacing("http://www.w3.org/2000/svg", with: "").contains("http://"), "\(path)")
          #expect(!text.contains("https://") && !text.contains("innerHTML") && !text.contains("eval("), "\(path)")
        }
      }
      #expect(!StatusPage.isFile(path: "/status/state"))
    }
  }

  @Test func metricsFollowRequests() async throws {
    try await withServer { client, _ in
      let body = ByteBuffer(string: #"{"instances": [1, 2]}"#)
      for _ in 0..<3 {
        let answer = try await client.execute(uri: "/v1/models/half_plus_two:predict", method: .post, body: body)
        #expect(answer.status == .ok)
      }
      for path in ["/v1/models/half_plus_two:predict", "/v1/models/nobody:predict", "/v2/models/nobody/infer"] {
        let answer = try await client.execute(uri: path, method: .post, body: ByteBuffer(string: "{"))
        #expect(answer.status.code >= 400)
      }
      let refused = try await client.execute(uri: "/v1/models/busy:predict", method: .post, body: body)
      #expect(refused.status.code == 503)
      let metrics = try await client.execute(uri: "/metrics", method: .get)
      #expect(metrics.headers[.contentType] == "text/plain; version=0.0.4; charset=utf-8")
      let lines = String(buffer: metrics.body).split(separator: "\n").map(String.init)
      for line in [
        #"nv_inference_request_success{model="half_plus_two",version="1"} 3"#,
        #"nv_inference_request_failure{model="busy",version="1",reason="REJECTED"} 1"#,
        #":tensorflow:serving:request_count{model_name="half_plus_two",status="OK"} 3"#,
        #":tensorflow:serving:request_count{model_name="busy",status="UNAVAILABLE"} 1"#,
        #":tensorflow:serving:request_latency_count{model_name="half_plus_two",API="Predict",entrypoint="REST"} 3"#,
        #"apus_requests_total{api="tensorflow-rest",code="OK"} 3"#,
        #"apus_model_state{model="half_plus_two",version="1",state="AVAILABLE"} 1"#, "apus_ready 1",
      ] { #expect(lines.contains(line), "\(line)") }
      #expect(!lines.contains { $0.contains("nobody") })
      let other = try await client.execute(uri: "/monitoring/prometheus/metrics", method: .get)
      #expect(String(buffer: other.body).contains("nv_inference_request_success{model=\"half_plus_two\""))
    }
  }

  @Test func requestsHaveIdentitiesAndTraces() async throws {
    try await withServer { client, _ in
      let body = ByteBuffer(string: #"{"instances": [1]}"#)
      let id = try #require(HTTPField.Name("x-request-id"))
      let own = try await client.execute(
        uri: "/v1/models/half_plus_two:predict", method: .post, headers: [id: "my-7"], body: body)
      #expect(own.headers[id] == "my-7")
      let made = try await client.execute(
        uri: "/v1/models/half_plus_two:predict", method: .post, headers: [id: "a b"], body: body)
      #expect(made.headers[id]?.count == 32)
      let trace = try await client.execute(uri: "/v2/trace/requests/my-7", method: .get)
      #expect(trace.status == .ok)
      let events = try self.object(trace)["traceEvents"]?.array ?? []
      #expect(events.contains { $0.object?["name"]?.string == "predict half_plus_two version 1" })
      _ = try await client.execute(uri: "/v1/models/half_plus_two:predict", method: .post, headers: [id: "a/b?"], body: body)
      let encoded = try await client.execute(uri: "/v2/trace/requests/a%2Fb%3F", method: .get)
      #expect(encoded.status == .ok)
      let none = try await client.execute(uri: "/v2/trace/requests/another", method: .get)
      #expect(none.status == .notFound)
      for (query, status) in [("last=1", 200), ("last=0", 400), ("last=x", 400), ("last=99999999999", 200)] {
        let answer = try await client.execute(uri: "/v2/trace/requests?\(query)", method: .get)
        #expect(answer.status.code == status, "\(query)")
      }
    }
  }

  @Test func theStateTellsWhatThePageShows() async throws {
    try await withServer { client, _ in
      let body = ByteBuffer(string: #"{"instances": [1]}"#)
      _ = try await client.execute(uri: "/v1/models/half_plus_two:predict", method: .post, body: body)
      _ = try await client.execute(
        uri: "/v1/models/%3Cscript%3Ealert(1)%3C%2Fscript%3E:predict", method: .post, body: ByteBuffer(string: "{"))
      let state = try self.object(try await client.execute(uri: "/status/state", method: .get))
      #expect(state["ready"]?.bool == true && state["hasJournal"]?.bool == true)
      let models = (state["models"]?.array ?? []).compactMap { $0.object }
      let model = try #require(models.first { $0["name"]?.string == "half_plus_two" })
      let version = try #require(model["versions"]?.array?.first?.object)
      #expect(version["state"]?.string == "AVAILABLE" && version["success"]?.integer == 1)
      let signature = try #require(version["signatures"]?.array?.first?.object)
      let input = try #require(signature["inputs"]?.array?.first?.object)
      #expect(input["name"]?.string == "x" && input["type"]?.string == "float32")
      #expect(input["shape"]?.array?.first?.object?["name"]?.string == "batch")
      #expect(model["minute"]?.object?["count"]?.integer == 1)
      let recent = (state["recent"]?.array ?? []).compactMap { $0.object }
      #expect(recent.count == 2 && recent[1]["code"]?.string == "OK")
      let curves = try self.object(try await client.execute(uri: "/status/curves?model=half_plus_two", method: .get))
      let counts = (curves["slots"]?.array ?? []).compactMap { $0.array?[1].integer }
      #expect(counts.reduce(0, +) == 1)
      let strange = try await client.execute(uri: "/status/curves?model=%22%3C", method: .get)
      #expect(strange.status == .ok)
      let missing = try await client.execute(uri: "/status/curves", method: .get)
      #expect(missing.status == .badRequest)
    }
  }
}
