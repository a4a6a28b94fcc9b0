import ApusServables
import Testing

@testable import ApusServing

@Suite struct TensorFlowPathTests {
  @Test(arguments: [
    ("/v1/models/m:predict", TensorFlowPath.Subject.predict, "m", VersionChoice.latest),
    ("/V1/Models/m:PREDICT", .predict, "m", .latest), ("/v1/models/m/versions/12:classify", .classify, "m", .number(12)),
    ("/v1/models/m/Labels/canary:regress", .regress, "m", .label("canary")),
    ("/v1/models/a%20b%2Fc:predict", .predict, "a b/c", .latest),
    ("/v1/models/%E9%BB%91:predict", .predict, "黑", .latest), ("/v1/models/a%zz:predict", .predict, "a%zz", .latest),
    ("/v1/models/m/labels/st%61ble:predict", .predict, "m", .label("stable")), ("/v1/models/..:predict", .predict, "..", .latest),
    ("/v1/models/%2e%2e%2f:predict", .predict, "../", .latest),
  ])
  func readsPosts(_ path: String, _ subject: TensorFlowPath.Subject, _ model: String, _ version: VersionChoice) throws {
    let found = try TensorFlowPath(.post, path)
    #expect(found.subject == subject && found.model == model && found.version == version)
  }

  @Test(arguments: [
    ("/v1/models", TensorFlowPath.Subject.status, "", VersionChoice.latest), ("/v1/models/m", .status, "m", .latest),
    ("/v1/models/m/versions/3", .status, "m", .number(3)), ("/v1/models/m/labels/x", .status, "m", .label("x")),
    ("/v1/models/m/metadata", .metadata, "m", .latest), ("/v1/models/m/versions/3/METADATA", .metadata, "m", .number(3)),
    ("/v1/models/metadata", .status, "metadata", .latest),
  ])
  func readsGets(_ path: String, _ subject: TensorFlowPath.Subject, _ model: String, _ version: VersionChoice) throws {
    let found = try TensorFlowPath(.get, path)
    #expect(found.subject == subject && found.model == model && found.version == version)
  }

  @Test(arguments: [
    "/v1/models/m", "/v1/models/m:explain", "/v1/models/:predict", "/v1/models:predict", "/v1/model/m:predict",
    "/v2/models/m:predict",
    "/v1/models/m/versions/x:predict", "/v1/models/m/versions:predict", "/v1/models/m/versions/1/labels/a:predict",
    "/v1/models/m/versions/1/:predict", "/v1/models/a:b:predict", "/v1/models//m:predict", "/v1", "", "/", "v1/models/m:predict",
    "/v1/models/m/versions/-1:predict",
  ])
  func refusesOtherPosts(_ path: String) {
    #expect(throws: ServingError(.invalidArgument, "Malformed request: POST \(path)")) { try TensorFlowPath(.post, path) }
  }

  @Test func refusesOtherRequests() {
    #expect(throws: ServingError(.invalidArgument, "Malformed request: GET /v1/models/m:predict")) {
      try TensorFlowPath(.get, "/v1/models/m:predict")
    }
    #expect(throws: ServingError(.invalidArgument, "Malformed request: PUT /v1/models/m")) {
      try TensorFlowPath(.put, "/v1/models/m")
    }
    #expect(throws: ServingError(.invalidArgument, "Malformed request: GET /v1/models/m/")) {
      try TensorFlowPath(.get, "/v1/models/m/")
    }
    #expect(throws: ServingError(.invalidArgument, "Failed to convert version: 99999999999999999999 to numeric.")) {
      try TensorFlowPath(.post, "/v1/models/m/versions/99999999999999999999:predict")
    }
    #expect(throws: ServingError(.invalidArgument, "Failed to decode model name:%ff")) {
      try TensorFlowPath(.post, "/v1/models/%ff:predict")
    }
  }
}
