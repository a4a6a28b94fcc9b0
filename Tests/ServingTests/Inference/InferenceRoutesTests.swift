import Apus
import ApusFormats
import ApusServables
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import NIOCore
import Testing

@testable import ApusServing

@Suite struct InferenceRoutesTests {
  // MARK: The server and its models

  @Test func describesItself() async throws {
    try await InferenceFixture.withClient { client in
      let server = try await client.get("/v2")
      #expect(server.status == 200)
      #expect(server.json.object?["name"]?.string == "apus")
      let extensions = server.json.object?["extensions"]?.array?.compactMap(\.string) ?? []
      #expect(extensions.contains("binary_tensor_data") && extensions.contains("classification"))
      #expect(!extensions.contains("sequence") && !extensions.contains("system_shared_memory"))
      let live = try await client.get("/v2/health/live")
      #expect(live.status == 200 && live.json == .object(["live": .bool(true)]))
      #expect(try await client.get("/v2/health/ready").status == 200)
    }
  }

  @Test func describesModels() async throws {
    try await InferenceFixture.withClient { client in
      let metadata = try await client.get("/v2/models/sums")
      let port: @Sendable (String) -> JSONValue = {
        .object(["name": .string($0), "datatype": .string("FP32"), "shape": .array([.integer(-1), .integer(3)])])
      }
      #expect(
        metadata.json
          == .object([
            "name": .string("sums"), "versions": .array([.string("1")]), "platform": .string("apus"),
            "inputs": .array([port("a"), port("b")]), "outputs": .array([port("difference"), port("sum")]),
          ]))
      #expect(try await client.get("/v2/models/sums/versions/1").json == metadata.json)
      let ready = try await client.get("/v2/models/sums/ready")
      #expect(ready.status == 200 && ready.json.object?["ready"]?.bool == true)
      let config = try await client.get("/v2/models/sums/config").json.object
      #expect(config?["max_batch_size"]?.integer == 0)
      let input = config?["input"]?.array?.first?.object
      #expect(input?["data_type"]?.string == "TYPE_FP32" && input?["dims"] == .array([.integer(-1), .integer(3)]))
      let types = try await client.get("/v2/models/echo").json.object?["inputs"]?.array?.compactMap {
        $0.object?["datatype"]?.string
      }
      #expect(types == ["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64"])
    }
  }

  @Test func namesWhatIsUnknown() async throws {
    try await InferenceFixture.withClient { client in
      for path in ["/v2/models/x", "/v2/models/x/ready", "/v2/models/x/config", "/v2/models/x/stats"] {
        let answer = try await client.get(path)
        #expect(answer.status == 404)
        #expect(answer.json == .object(["error": .string("Request for unknown model: 'x' is not found")]))
      }
      #expect(try await client.post("/v2/models/x/infer", #"{"inputs":[]}"#).status == 404)
      #expect(try await client.get("/v2/models/no%20such/ready").json.object?["error"]?.string?.contains("'no such'") == true)
      let version = try await client.get("/v2/models/sums/versions/7")
      #expect(version.status == 404)
      #expect(version.json.object?["error"]?.string == "Request for unknown model: 'sums' version 7 is not found")
      for path in [
        "/v2/models/sums/versions/one", "/v2/models/sums/versions/-1/ready", "/v2/models/sums/versions/99999999999999999999",
      ] {
        #expect(try await client.get(path).status == 400)
      }
      for path in ["/v2/nothing", "/v2/models/sums/nothing"] {
        let answer = try await client.get(path)
        #expect(answer.status == 404 && answer.json.object?["error"] != nil)
      }
      #expect(try await client.get("/v2/trace/setting").status == 501)
      #expect(try await client.post("/v2/systemsharedmemory/region/x/register", "{}").status == 501)
    }
  }

  @Test func repositoryAndStatistics() async throws {
    try await InferenceFixture.withClient { client in
      for body in ["", "{}", #"{"ready": true}"#] {
        let index = try await client.post("/v2/repository/index", body).json.array ?? []
        #expect(index.compactMap { $0.object?["name"]?.string } == ["echo", "pixels", "sums", "two"])
        #expect(index.allSatisfy { $0.object?["state"]?.string == "READY" && $0.object?["version"]?.string == "1" })
      }
      #expect(try await client.post("/v2/repository/index", "[").status == 400)
      #expect(try await client.post("/v2/repository/models/x/load", #"{"parameters":{"config":"{}"}}"#).status == 501)
      #expect(try await client.post("/v2/repository/models/x/load", "{}").status == 404)

      func success() async throws -> Int? {
        let stats = try await client.get("/v2/models/pixels/versions/1/stats").json.object?["model_stats"]?.array?.first?.object
        #expect(stats?["name"]?.string == "pixels" && stats?["version"]?.string == "1")
        #expect(stats?["memory_usage"]?.array?.first?.object?["type"]?.string == "CPU")
        return stats?["inference_stats"]?.object?["success"]?.object?["count"]?.integer
      }
      _ = try await success()
      let all = try await client.get("/v2/models/stats").json.object?["model_stats"]?.array ?? []
      #expect(all.compactMap { $0.object?["name"]?.string } == ["echo", "pixels", "sums", "two"])
    }
  }

  // MARK: Requests in JSON

  @Test func infersFromJSON() async throws {
    try await InferenceFixture.withClient { client in
      let a = #"{"name":"a","shape":[2,3],"datatype":"FP32","data":[1,2,3,4,5,6]}"#
      let nested = #"{"data":[[1,1.5,1],[1,1,-1e1]],"shape":[2,3],"datatype":"FP32","name":"b"}"#
      let answer = try await client.post("/v2/models/sums/infer", #"{"id":"r1","inputs":[\#(a),\#(nested)]}"#)
      #expect(answer.status == 200)
      #expect(answer.headers[.contentType] == "application/json")
      let object = answer.json.object
      #expect(object?.keys == ["model_name", "model_version", "id", "outputs"])
      #expect(object?["id"]?.string == "r1" && object?["model_version"]?.string == "1")
      let outputs = object?["outputs"]?.array?.compactMap(\.object) ?? []
      #expect(outputs.map { $0["name"]?.string } == ["difference", "sum"])
      #expect(outputs.last?["shape"] == .array([.integer(2), .integer(3)]))
      #expect(outputs.last?["datatype"]?.string == "FP32")
      #expect(outputs.last?["data"]?.array?.map(\.number) == [2, 3.5, 4, 5, 6, -4])
      let version = try await client.post("/v2/models/sums/versions/1/infer", #"{"inputs":[\#(a),\#(nested)]}"#)
      #expect(version.status == 200 && version.json.object?["id"] == nil)

      let one = try await client.post(
        "/v2/models/sums/infer",
        #"{"outputs":[{"name":"sum","parameters":{"binary_data":false}}],"inputs":[\#(a),\#(nested)],"parameters":{"mine":[1]}}"#)
      #expect(one.json.object?["outputs"]?.array?.count == 1)
    }
  }

  /// What JSON says of each type, and what comes back, reversed.
  private static let numbers: [(ElementType, String, [Double])] = {
    var result: [(ElementType, String, [Double])] = []
    result.append((.bool, "[true,false]", [0, 1]))
    result.append((.uint8, "[255,0]", [0, 255]))
    result.append((.int8, "[-128,127]", [127, -128]))
    result.append((.int16, "[-32768,32767]", [32767, -32768]))
    result.append((.int32, "[-2147483648,7]", [7, -2_147_483_648]))
    result.append((.int64, "[9007199254740991,-1]", [-1, 9_007_199_254_740_991]))
    result.append((.float16, "[0.5,65504]", [65504, 0.5]))
    result.append((.bfloat16, "[3.125,-2]", [-2, 3.125]))
    result.append((.float32, "[0.1,1e30]", [Double(Float(1e30)), Double(Float(0.1))]))
    result.append((.float64, "[0.1,1e300]", [1e300, 0.1]))
    return result
  }()

  @Test func everyTypeInJSON() async throws {
    try await InferenceFixture.withClient { client in
      let inputs = Self.numbers.map { type, data, _ in
        #"{"name":"x_\#(type)","shape":[1,2],"datatype":"\#(type.inferenceName)","data":\#(data)}"#
      }
      let answer = try await client.post("/v2/models/echo/infer", #"{"inputs":[\#(inputs.joined(separator: ","))]}"#)
      #expect(answer.status == 200)
      for (type, _, expected) in Self.numbers {
        let output = answer.json.object?["outputs"]?.array?.first { $0.object?["name"]?.string == "y_\(type)" }?.object
        #expect(output?["datatype"]?.string == type.inferenceName)
        let data = output?["data"]?.array ?? []
        if type == .bool {
          #expect(data == [.bool(false), .bool(true)])
        } else {
          let found = data.compactMap(\.number)
          #expect(found.map { type == .float32 ? Double(Float($0)) : $0 } == expected, "\(type)")
        }
      }
    }
  }

  @Test func everyTypeInBinary() async throws {
    try await InferenceFixture.withClient { client in
      var inputs: [String] = []
      var data: [UInt8] = []
      for type in InferenceFixture.types {
        let size = type.byteSize * 6
        inputs.append(
          #"{"name":"x_\#(type)","shape":[3,2],"datatype":"\#(type.inferenceName)","parameters":{"binary_data_size":\#(size)}}"#)
        // Bits that are some number in every type.
        data += type == .bool ? [1, 0, 0, 0, 1, 1] : (0..<size).map { UInt8(($0 * 7 + 1) % 64) }
      }
      let head = #"{"inputs":[\#(inputs.joined(separator: ","))],"parameters":{"binary_data_output":true}}"#
      let answer = try await client.post("/v2/models/echo/infer", head, data: data)
      #expect(answer.status == 200)
      #expect(answer.headers[.contentType] == "application/octet-stream")
      var position = 0
      var given = 0
      var results: [String: [UInt8]] = [:]
      for output in answer.json.object?["outputs"]?.array?.compactMap(\.object) ?? [] {
        let size = output["parameters"]?.object?["binary_data_size"]?.integer ?? 0
        results[output["name"]?.string ?? ""] = Array(answer.data[position..<position + size])
        position += size
      }
      #expect(position == answer.data.count)
      for type in InferenceFixture.types {
        let width = type.byteSize
        let sent = Array(data[given..<given + 6 * width])
        given += 6 * width
        var expected: [UInt8] = []
        for row in 0..<3 {
          let start = row * 2 * width
          expected += sent[start + width..<start + 2 * width]
          expected += sent[start..<start + width]
        }
        #expect(results["y_\(type)"] == expected, "\(type)")
      }
    }
  }

  @Test func mixesBinaryAndJSON() async throws {
    try await InferenceFixture.withClient { client in
      let data = [Float(1), 2, 3].flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
      let head = """
        {"inputs":[{"name":"b","shape":[1,3],"datatype":"FP32","data":[10,20,30]},
         {"name":"a","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],
         "outputs":[{"name":"sum","parameters":{"binary_data":true}},{"name":"difference"}]}
        """
      let answer = try await client.post("/v2/models/sums/infer", head, data: data)
      #expect(answer.status == 200)
      let outputs = answer.json.object?["outputs"]?.array?.compactMap(\.object) ?? []
      #expect(outputs.map { $0["name"]?.string } == ["sum", "difference"])
      #expect(outputs.last?["data"]?.array?.map(\.number) == [-9, -18, -27])
      let sums = answer.data.withUnsafeBytes { bytes in
        (0..<3).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
      }
      #expect(sums == [11, 22, 33])
    }
  }

  @Test func stringsFillBytes() async throws {
    try await InferenceFixture.withClient { client in
      func scores(_ answer: (status: Int, json: JSONValue, data: [UInt8], headers: HTTPFields)) -> [Double?]? {
        answer.json.object?["outputs"]?.array?.first?.object?["data"]?.array?.map(\.number)
      }
      let expected: [Double] = [24.25, 24.5, 24.75, 25, 25.25, 25.5, 25.75, 26]
      for (shape, data) in [("[2]", #"["abcd","efgh"]"#), ("[2,1]", #"["abcd","efgh"]"#), ("[2,1]", #"[["abcd"],["efgh"]]"#)] {
        let answer = try await client.post(
          "/v2/models/pixels/infer", #"{"inputs":[{"name":"image","shape":\#(shape),"datatype":"BYTES","data":\#(data)}]}"#)
        #expect(scores(answer) == expected)
      }
      func prefixed(_ text: String, _ count: UInt8) -> [UInt8] { [count, 0, 0, 0] + Array(text.utf8) }
      let strings = prefixed("abcd", 4) + prefixed("efgh", 4)
      let head = #"{"inputs":[{"name":"image","shape":[2,1],"datatype":"BYTES","parameters":{"binary_data_size":16}}]}"#
      let counted = try await client.post("/v2/models/pixels/infer", head, data: strings)
      #expect(scores(counted) == expected)
      let long = prefixed("abcd", 4) + prefixed("efgh", 5)
      let cut = prefixed("abcdefghijk", 11) + [1]
      let uneven = prefixed("abc", 3) + prefixed("defgh", 5)
      let huge = prefixed("abcd", 4) + [255, 255, 255, 255, 0, 0, 0, 0]
      for broken in [long, cut, uneven, huge] {
        #expect(broken.count == 16)
        #expect(try await client.post("/v2/models/pixels/infer", head, data: broken).status == 400)
      }
      for data in [#"["abcd","efg"]"#, #"["abcd"]"#, "[1,2]", #"["abcd","efgh","ijkl"]"#, "[]"] {
        let answer = try await client.post(
          "/v2/models/pixels/infer", #"{"inputs":[{"name":"image","shape":[2],"datatype":"BYTES","data":\#(data)}]}"#)
        #expect(answer.status == 400, "\(data)")
      }
      let wrong = try await client.post(
        "/v2/models/sums/infer", #"{"inputs":[{"name":"a","shape":[1],"datatype":"BYTES","data":["abc"]}]}"#)
      #expect(wrong.status == 400)
    }
  }

  @Test func rawBodyOfOneInput() async throws {
    try await InferenceFixture.withClient { client in
      let headers: HTTPFields = [.inferenceHeaderContentLength: "0"]
      let answer = try await client.post("/v2/models/pixels/infer", "abcdefgh", headers: headers)
      #expect(answer.status == 200)
      let output = answer.json.object?["outputs"]?.array?.first?.object
      #expect(output?["shape"] == .array([.integer(2), .integer(4)]))
      #expect(answer.data.count == 32)
      #expect(try await client.post("/v2/models/pixels/infer", "abcdefg", headers: headers).status == 400)
      #expect(try await client.post("/v2/models/pixels/infer", "", headers: headers).status == 400)
      #expect(try await client.post("/v2/models/sums/infer", "abcdefgh", headers: headers).status == 400)
    }
  }

  @Test func bestClasses() async throws {
    try await InferenceFixture.withClient { client in
      let body = """
        {"inputs":[{"name":"image","shape":[2,4],"datatype":"UINT8","data":[1,9,5,9, 200,3,2,1]}],
         "outputs":[{"name":"scores","parameters":{"classification":COUNT}}]}
        """
      func strings(_ count: String) async throws -> [String]? {
        let output = try await client.post(
          "/v2/models/pixels/infer", body.split(separator: "COUNT").joined(separator: count)
        ).json.object?["outputs"]?.array?.first?.object
        #expect(output?["datatype"]?.string == "BYTES")
        #expect(output?["shape"]?.array?.first?.integer == 2)
        return output?["data"]?.array?.compactMap(\.string)
      }
      // Equal scores keep their order; the fourth class has no label.
      let best = try await strings("2")
      #expect(best == ["2.250000:1:dog", "2.250000:3", "50.000000:0:cat", "0.750000:1:dog"])
      #expect(try await strings("1000")?.count == 8)
    }
  }

  @Test func signatureByParameter() async throws {
    try await InferenceFixture.withClient { client in
      let input = #""inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}]"#
      func result(_ name: String) async throws -> [Double?]? {
        let answer = try await client.post("/v2/models/two/infer", #"{\#(input),"parameters":{"signature_name":"\#(name)"}}"#)
        return answer.json.object?["outputs"]?.array?.first?.object?["data"]?.array?.map(\.number)
      }
      #expect(try await result("double") == [2, 4])
      #expect(try await result("negate") == [-1, -2])
      let none = try await client.post("/v2/models/two/infer", "{\(input)}")
      #expect(none.status == 400 && none.json.object?["error"]?.string?.contains("double, negate") == true)
      #expect(try await client.post("/v2/models/two/infer", #"{\#(input),"parameters":{"signature_name":"x"}}"#).status == 400)
    }
  }

  @Test func compressedBodies() async throws {
    try await InferenceFixture.withClient { client in
      let body = #"{"inputs":[{"name":"image","shape":[1,4],"datatype":"UINT8","data":[4,8,12,16]}]}"#
      let deflated = Array(body.utf8).withUnsafeBytes { Zlib.compress($0) }
      try await client.execute(
        uri: "/v2/models/pixels/infer", method: .post, headers: [.contentEncoding: "deflate", .acceptEncoding: "deflate"],
        body: ByteBuffer(bytes: deflated)
      ) { answer in
        #expect(answer.status == .ok && answer.headers[.contentEncoding] == "deflate")
        let text = try answer.body.withUnsafeReadableBytes { try Zlib.decompress($0, file: "answer") }
        let json = try JSONValue(parsing: text, file: "answer")
        #expect(json.object?["outputs"]?.array?.first?.object?["data"]?.array?.map(\.number) == [1, 2, 3, 4])
      }
      try await client.execute(
        uri: "/v2/models/pixels/infer", method: .post, headers: [.contentEncoding: "deflate", .acceptEncoding: "gzip"],
        body: ByteBuffer(bytes: deflated)
      ) { answer in
        #expect(answer.status == .ok && answer.headers[.contentEncoding] == "gzip")
        _ = try answer.body.withUnsafeReadableBytes { try Gzip.decompress($0, file: "answer") }
      }
      // 5 MB of zeros in a few KB; 4 MB are accepted.
      let bomb = [UInt8](repeating: 0x30, count: 5 << 20).withUnsafeBytes { Zlib.compress($0) }
      for (encoding, bytes, status) in [
        ("deflate", bomb, 413), ("gzip", deflated, 400), ("deflate", Array(deflated.dropLast(3)), 400), ("br", deflated, 501),
      ] {
        try await client.execute(
          uri: "/v2/models/pixels/infer", method: .post, headers: [.contentEncoding: encoding], body: ByteBuffer(bytes: bytes)
        ) { #expect($0.status.code == status) }
      }
    }
  }

  // MARK: Mistakes and attacks

  /// Bodies that must be refused, and a word of the reason.
  private static let hostile: [[String]] = [
    ["", "JSON"],
    ["{", "JSON"],
    ["[]", "JSON"],
    ["null", "JSON"],
    ["{}", "no 'inputs'"],
    [#"{"inputs":{}}"#, "JSON"],
    [#"{"inputs":[]}"#, "missing required input(s) ['a','b']"],
    [#"{"inputs":[1]}"#, "JSON"],
    [#"{"inputs":[{}]}"#, "no 'name'"],
    [#"{"inputs":[{"name":"a"}]}"#, "no 'datatype'"],
    [#"{"inputs":[{"name":"a","datatype":"FP32"}]}"#, "no 'shape'"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3]}]}"#, "neither"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}"#, "expected 2 inputs but got 1"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"data":[1,2]}]}"#, "has 3 elements, 'data' 2"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"data":[1,2,3,4]}]}"#, "a"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[2,3],"data":[[1,2],[3,4],[5,6]]}]}"#, "nested as [3,2]"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[2,3],"data":[[1,2,3],[4,5]]}]}"#, "elements"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"data":["1","2","3"]}]}"#, "number"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"data":[1,2,1e999]}]}"#, "1e999"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"data":null}]}"#, "a"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[-1,3],"data":[1,2,3]}]}"#, "-1"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3,1],"data":[1,2,3]}]}"#, "Expected [-1,3], got [1,3,1]"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}"#, "Expected [-1,3], got [1,4]"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[0,3],"data":[]}]}"#, "'batch' is 0"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1.5,3],"data":[]}]}"#, "1.5"],
    [
      #"{"inputs":[{"name":"a","datatype":"FP32","shape":[9223372036854775807,3],"data":[]}]}"#, "'batch' is 9223372036854775807",
    ],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[92233720368547758080,3],"data":[]}]}"#, "92233720368547758080"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[2147483648,3],"data":[]}]}"#, "1048576 bytes"],
    [#"{"inputs":[{"name":"a","datatype":"BYTES","shape":[4194305,4194305,211106198978564],"data":["a"]}]}"#, "not possible"],
    [
      #"{"inputs":[{"name":"a","datatype":"FP64","shape":[1,3],"data":[1,2,3]}]}"#,
      "data-type is 'FP64', but model 'sums' expects 'FP32'",
    ],
    [#"{"inputs":[{"name":"a","datatype":"UINT64","shape":[1,3],"data":[1,2,3]}]}"#, "'UINT64'"],
    [#"{"inputs":[{"name":"a","datatype":"float32","shape":[1,3],"data":[1,2,3]}]}"#, "unknown data-type 'float32'"],
    [#"{"inputs":[{"name":"c","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}"#, "unexpected inference input 'c'"],
    [#"{"inputs":[{"name":"a","name":"b","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}"#, "twice"],
    [
      #"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":12}}]}"#, "only 0 bytes are left",
    ],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":-1}}]}"#, "number of bytes"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":"9"}}]}"#, "number of bytes"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"data":[1,2,3],"parameters":{"binary_data_size":0}}]}"#, "both"],
    [#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"parameters":{"shared_memory_region":"x"}}]}"#, "shared memory"],
    [#"{"inputs":[],"parameters":{"timeout":-5}}"#, "'timeout'"],
    [#"{"inputs":[],"parameters":{"priority":"x"}}"#, "'priority'"],
    [#"{"inputs":[],"parameters":{"sequence_id":7}}"#, "sequence_id"],
    [#"{"inputs":[]}x"#, "more text follows"],
    [#"{"inputs":[],"id":5}"#, "JSON"],
  ]

  @Test func refusesWhatIsWrong() async throws {
    try await InferenceFixture.withClient { client in
      for pair in Self.hostile {
        let (body, reason) = (pair[0], pair[1])
        let answer = try await client.post("/v2/models/sums/infer", body)
        let message = answer.json.object?["error"]?.string ?? ""
        #expect((400...501).contains(answer.status) && answer.status != 500, "\(body): \(answer.status)")
        #expect(message.contains(reason), "\(body): \(message)")
      }
      let a = #"{"name":"a","shape":[1,3],"datatype":"FP32","data":[1,2,3]}"#
      let b = #"{"name":"b","shape":[2,3],"datatype":"FP32","data":[1,2,3,1,2,3]}"#
      for (inputs, reason) in [("\(a),\(a)", "'a' is given twice"), ("\(a),\(b)", "'batch' is 2, but 1 in input 'a'")] {
        let answer = try await client.post("/v2/models/sums/infer", #"{"inputs":[\#(inputs)]}"#)
        #expect(answer.status == 400 && answer.json.object?["error"]?.string?.contains(reason) == true)
      }
      let good = "\(a),\(b.split(separator: "[2,3]").joined(separator: "[1,3]").split(separator: ",1,2,3").joined())"
      for (outputs, reason) in [
        (#"{"name":"x"}"#, "unexpected inference output 'x'"), (#"{"name":"sum"},{"name":"sum"}"#, "requested twice"),
        ("{}", "no 'name'"),
        (#"{"name":"sum","parameters":{"classification":-1}}"#, "'classification'"),
        (#"{"name":"sum","parameters":{"binary_data":1}}"#, "'binary_data'"),
        (Array(repeating: #"{"name":"sum"}"#, count: 100_000).joined(separator: ","), "more than 1024 outputs"),
      ] {
        let answer = try await client.post("/v2/models/sums/infer", #"{"inputs":[\#(good)],"outputs":[\#(outputs)]}"#)
        #expect(answer.status == 400)
        #expect(answer.json.object?["error"]?.string?.contains(reason) == true, "\(answer.json)")
      }
      // The same with nothing wrong.
      #expect(try await client.post("/v2/models/sums/infer", #"{"inputs":[\#(good)],"outputs":[]}"#).status == 200)
    }
  }

  @Test func refusesBrokenFraming() async throws {
    try await InferenceFixture.withClient { client in
      let input: @Sendable (Int) -> String = { size in
        #"{"inputs":[{"name":"image","shape":[1,4],"datatype":"UINT8","parameters":{"binary_data_size":\#(size)}}]}"#
      }
      let data: [UInt8] = [1, 2, 3, 4]
      #expect(try await client.post("/v2/models/pixels/infer", input(4), data: data).status == 200)
      #expect(try await client.post("/v2/models/pixels/infer", input(3), data: data).status == 400)
      #expect(try await client.post("/v2/models/pixels/infer", input(5), data: data).status == 400)
      #expect(try await client.post("/v2/models/pixels/infer", input(4), data: data + [5]).status == 400)
      #expect(try await client.post("/v2/models/pixels/infer", input(Int.max), data: data).status == 400)
      for length in ["1000", "-1", "x", "99999999999999999999999", "1e2", "", "+5", " 5"] {
        let answer = try await client.post("/v2/models/pixels/infer", input(4), headers: [.inferenceHeaderContentLength: length])
        #expect(answer.status == 400, "\(length)")
      }
      let long = [UInt8](repeating: 0x20, count: 5 << 20)
      #expect(try await client.post("/v2/models/pixels/infer", "{}", data: long).status == 413)
      let deep = String(repeating: "[", count: 1_000_000)
      #expect(try await client.post("/v2/models/pixels/infer", deep).status == 400)
      #expect(try await client.post("/v2/models/pixels/infer", #"{"x":\#(deep)"#).status == 400)
      #expect(
        try await client.post(
          "/v2/models/pixels/infer", #"{"inputs":[{"name":"image","shape":[1,4],"datatype":"UINT8","data":\#(deep)}]}"#
        ).status == 400)
      // Half a surrogate pair and bytes that are no text.
      #expect(try await client.post("/v2/models/pixels/infer", #"{"id":"\ud800"}"#).status == 400)
      try await client.execute(
        uri: "/v2/models/pixels/infer", method: .post, body: ByteBuffer(bytes: Array(#"{"id":""#.utf8) + [0xff, 0xfe])
      ) { #expect($0.status == .badRequest) }
    }
  }

  /// Random changes of a good request are answered or refused, and nothing stops.
  @Test func survivesRandomChanges() async throws {
    try await InferenceFixture.withClient { client in
      let body = Array(
        #"{"id":"q","inputs":[{"name":"image","shape":[1,4],"datatype":"UINT8","data":[[1,2,3,4]]}],"outputs":[{"name":"scores"}]}"#
          .utf8)
      var random = SystemRandomNumberGenerator()
      for _ in 0..<400 {
        var changed = body
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let place = Int.random(in: 0..<changed.count, using: &random)
          switch Int.random(in: 0..<3, using: &random) {
          case 0: changed[place] = UInt8.random(in: 0...255, using: &random)
          case 1: changed.remove(at: place)
          default: changed.insert(contentsOf: body[0..<min(place, body.count)], at: place)
          }
        }
        try await client.execute(uri: "/v2/models/pixels/infer", method: .post, body: ByteBuffer(bytes: changed)) {
          #expect([200, 400, 501].contains($0.status.code))
        }
      }
    }
  }
}

@Suite struct BodyChunksTests {
  @Test func keepsLargePiecesAndJoinsSmallOnes() throws {
    var body = BodyChunks()
    var bytes: [UInt8] = []
    for size in [10_000, 1, 2, 3, 5_000, 4_096, 1, 1] {
      let piece = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ size) }
      body.append(ByteBuffer(bytes: piece))
      bytes += piece
    }
    #expect(body.count == bytes.count)
    #expect(body.chunks.count == 5)
    for length in [0, 1, 9_999, 10_000, 10_001, 10_006, 15_007, bytes.count] {
      let prefix = try body.withPrefix(length) { (part) throws(ServingError) in Array(part) }
      #expect(prefix == Array(bytes[..<length]))
      var reader = BodyChunks.Reader(body)
      reader.skip(length)
      #expect(reader.left == bytes.count - length)
      let rest = [UInt8](unsafeUninitializedCapacity: reader.left) { buffer, count in
        count = reader.left
        reader.copy(into: UnsafeMutableRawBufferPointer(buffer))
      }
      #expect(rest == Array(bytes[length...]))
    }
  }

  /// Single bytes cost no buffer each.
  @Test func joinsSingleBytes() {
    var body = BodyChunks()
    for i in 0..<300_000 { body.append(ByteBuffer(bytes: [UInt8(truncatingIfNeeded: i)])) }
    #expect(body.count == 300_000)
    #expect(body.chunks.count <= 6)
  }
}
