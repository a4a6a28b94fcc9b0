import ApusServables
import ApusServingProtocols
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Hummingbird
import HummingbirdTesting
import Testing

@testable import ApusServing

private let predictPath = "/v1/models/half_plus_two:predict"
private let predictBody = #"{"instances": [1.0, 2.0]}"#

private func withClient(
  _ port: Int, _ security: HTTP2ClientTransport.Posix.TransportSecurity = .plaintext,
  _ body: (GRPCClient<HTTP2ClientTransport.Posix>) async throws -> Void
) async throws {
  try await withGRPCClient(
    transport: .http2NIOPosix(target: .ipv4(address: "127.0.0.1", port: port), transportSecurity: security)
  ) { try await body($0) }
}

@Suite struct ServerTests {
  // MARK: HTTP/1.1

  @Test func keepsConnectionsAndAnswersInOrder() async throws {
    try await withServer { (server) async throws in
      try await blocking {
        let connection = try RawConnection(server.http)
        for _ in 0..<3 {
          let answer = try #require(connection.request("POST", predictPath, [], predictBody))
          #expect(answer.status == 200)
          #expect(answer.body.contains("2.5"))
          #expect(answer.field("connection") == nil)
        }
        // Three at once on the same connection, the second unknown.
        let one = "POST \(predictPath) HTTP/1.1\r\nhost: a\r\ncontent-length: \(predictBody.utf8.count)\r\n\r\n\(predictBody)"
        connection.send(one + "GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n" + one)
        #expect((0..<3).map { _ in connection.answer()?.status } == [200, 404, 200])
        // A client of HTTP/1.0 is told by the end of the connection.
        let old = try RawConnection(server.http)
        old.send("GET /v2/health/live HTTP/1.0\r\n\r\n")
        #expect(old.answer()?.status == 200)
        #expect(old.isEnded())
      }
    }
  }

  @Test func refusesWhatIsNoRequest() async throws {
    try await withServer { (server) async throws in
      try await blocking {
        let heads = [
          "POST \(predictPath) HTTP/1.1\r\nhost: a\r\ncontent-length: 25\r\ncontent-length: 24\r\n\r\n",
          "POST \(predictPath) HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
          "POST \(predictPath) HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
          "POST \(predictPath) HTTP/1.1\r\nhost: a\r\nname : value\r\n\r\n",
          "GET / HTTP/1.1\r\nhost: a\r\nlong: \(String(repeating: "x", count: 100_000))\r\n\r\n",
          "GET / HTTP/1.1\r\nhost: a\r\n" + (0..<1_000).map { "f\($0): 1\r\n" }.joined() + "\r\n", "nonsense\r\n\r\n",
        ]
        for head in heads {
          let connection = try RawConnection(server.http)
          connection.send(head)
          #expect(connection.answer()?.status == 400, "\(head.prefix(120))")
        }
        let connection = try RawConnection(server.http)
        connection.send("POST \(predictPath) HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ins\r\nno size\r\n")
        #expect(connection.answer()?.status == 400)
        #expect(connection.isEnded())
      }
      #expect(try await ask(server.http, "GET", "/v2/models/%2e%2e/ready")?.status == 404)
      #expect(try await ask(server.http, "GET", "/v1/models/%2e%2e%2f%2e%2e%2fetc")?.status == 404)
      #expect(try await ask(server.http, "POST", predictPath, [], predictBody)?.status == 200)
    }
  }

  @Test func bodiesAreLimitedWhileTheyCome() async throws {
    try await withServer { (server) async throws in
      try await blocking {
        // 2 MiB where 1 MiB is accepted: by its own word, and without any.
        let declared = try RawConnection(server.http)
        declared.send("POST \(predictPath) HTTP/1.1\r\nhost: a\r\ncontent-length: 2097152\r\n\r\n")
        #expect(declared.answer()?.status == 413)
        let streamed = try RawConnection(server.http)
        streamed.send("POST \(predictPath) HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        let chunk = "10000\r\n" + String(repeating: " ", count: 0x10000) + "\r\n"
        for _ in 0..<32 { if !streamed.send(chunk) { break } }
        let answer = streamed.answer()
        #expect(answer?.status == 413)
        #expect(answer?.field("connection") == "close")
      }
    }
  }

  @Test func bodiesMayComeByteByByte() async throws {
    try await withServer { (server) async throws in
      try await blocking {
        let connection = try RawConnection(server.http)
        connection.send("POST \(predictPath) HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        let body = #"{"instances": [1.0\#(String(repeating: " ", count: 100_000)), 2.0]}"#
        #expect(connection.send(body.map { "1\r\n\($0)\r\n" }.joined() + "0\r\n\r\n"))
        let answer = connection.answer()
        #expect(answer?.status == 200)
        #expect(answer?.body.contains("2.5") == true)
        // The client waits to be told.
        connection.send(
          "POST \(predictPath) HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: \(predictBody.utf8.count)\r\n\r\n")
        #expect(connection.answer()?.status == 100)
        connection.send(predictBody)
        #expect(connection.answer()?.status == 200)
      }
    }
  }

  @Test func slowClientsAreCutOff() async throws {
    try await withServer(
      options: { $0.idleTimeout = .milliseconds(300) }, limits: { $0.readTimeout = .milliseconds(200) }
    ) { (server) async throws in
      try await blocking {
        // Nothing at all; a head that does not end; a body that does not; a connection that is not used again.
        let silent = try RawConnection(server.http)
        let head = try RawConnection(server.http)
        head.send("GET / HTTP/1.1\r\nhost: a\r\nx: ")
        let body = try RawConnection(server.http)
        body.send("POST \(predictPath) HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        let idle = try RawConnection(server.http)
        #expect(idle.request("GET", "/v2/health/live")?.status == 200)
        #expect(body.answer()?.status == 408)
        for connection in [silent, head, body, idle] { #expect(connection.isEnded()) }
        #expect(try RawConnection(server.grpc).isEnded())
      }
      #expect(server.server.gate.count == 0)
    }
  }

  // MARK: Who may, and how many

  @Test func tokensAreNeeded() async throws {
    let tokens = AccessTokens(["secret", "other"])
    #expect(tokens.accepts(authorization: "Bearer secret"))
    #expect(tokens.accepts(authorization: "bearer  other "))
    for field in [nil, "", "secret", "Basic secret", "Bearer secre", "Bearer secrets", "Bearer"] as [String?] {
      #expect(!tokens.accepts(authorization: field))
    }
    try await withServer(options: { ($0.tokens, $0.isHealthOpen) = (tokens, true) }) { (server) async throws in
      let refused = try await ask(server.http, "POST", predictPath, [], predictBody)
      #expect(refused?.status == 401)
      #expect(refused?.field("www-authenticate")?.hasPrefix("Bearer") == true)
      #expect(try await ask(server.http, "POST", predictPath, ["authorization: Bearer wrong"], predictBody)?.status == 401)
      #expect(try await ask(server.http, "POST", predictPath, ["authorization: Bearer secret"], predictBody)?.status == 200)
      #expect(try await ask(server.http, "GET", "/v2/health/live")?.status == 200)
      #expect(try await ask(server.http, "GET", "/v2")?.status == 401)
      // A refusal does not end the connection.
      try await blocking {
        let connection = try RawConnection(server.http)
        #expect(connection.request("POST", predictPath, [], predictBody)?.status == 401)
        #expect(connection.request("POST", predictPath, ["authorization: Bearer other"], predictBody)?.status == 200)
      }
      try await withClient(server.grpc) { (client) async throws in
        let service = Inference_GRPCInferenceService.Client(wrapping: client)
        let error = await #expect(throws: RPCError.self) {
          _ = try await service.modelMetadata(.with { $0.name = "half_plus_two" })
        }
        #expect(error?.code == .unauthenticated)
        let answer = try await service.modelMetadata(
          .with { $0.name = "half_plus_two" }, metadata: ["authorization": "Bearer secret"])
        #expect(answer.name == "half_plus_two")
        #expect(try await service.serverLive(.init()).live)
      }
    }
    try await withServer(options: { $0.tokens = tokens }) { (server) async throws in
      #expect(try await ask(server.http, "GET", "/v2/health/live")?.status == 401)
    }
  }

  @Test func tooManyRequestsAreRefusedAtOnce() async throws {
    try await withServer(["held", "half_plus_two"], limits: { $0.maxConcurrentRequests = 1 }) { (server) async throws in
      let first = Task { try await ask(server.http, "POST", "/v1/models/held:predict", [], #"{"instances": [1]}"#) }
      while server.server.gate.count == 0 { try await Task.sleep(for: .milliseconds(5)) }
      let refused = try await ask(server.http, "POST", predictPath, [], predictBody)
      #expect(refused?.status == 503)
      #expect(refused?.field("retry-after") == "1")
      #expect(try await ask(server.http, "GET", "/v2/health/ready")?.status == 200)
      try await withClient(server.grpc) { (client) async throws in
        let service = Inference_GRPCInferenceService.Client(wrapping: client)
        let error = await #expect(throws: RPCError.self) { _ = try await service.serverMetadata(.init()) }
        #expect(error?.code == .unavailable)
      }
      Gate.held.open()
      #expect(try await first.value?.status == 200)
      #expect(try await ask(server.http, "POST", predictPath, [], predictBody)?.status == 200)
    }
  }

  @Test func whoGoesAwayIsNotWaitedFor() async throws {
    try await withServer(["busy_one"]) { (server) async throws in
      let path = "/v1/models/busy_one:predict"
      let first = Task { try await ask(server.http, "POST", path, [], #"{"instances": [1]}"#) }
      await Gate.busyOne.entered()
      try await blocking {
        let body = #"{"instances": [2]}"#
        let connection = try RawConnection(server.http)
        connection.send("POST \(path) HTTP/1.1\r\nhost: a\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)")
        while server.server.gate.count < 2 { usleep(5_000) }
        connection.close()
      }
      // It ends while the model is still busy with the first.
      for _ in 0..<500 where server.journal.all.isEmpty { try await Task.sleep(for: .milliseconds(20)) }
      #expect(!server.journal.all.isEmpty)
      #expect(server.journal.all.allSatisfy { $0.error?.code == .cancelled })
      Gate.busyOne.open()
      #expect(try await first.value?.status == 200)
    }
  }

  // MARK: The end

  @Test func whatHasBeenAcceptedIsAnswered() async throws {
    try await withServer { (server) async throws in
      let stopped = Task {
        try await Task.sleep(for: .milliseconds(300))
        server.server.stop()
      }
      // Each keeps one connection as long as it may, and opens another if it is told to.
      let counts = try await withThrowingTaskGroup(of: (answered: Int, lost: Int).self) { group in
        for _ in 0..<8 {
          group.addTask {
            try await blocking {
              var (answered, lost) = (0, 0)
              while let connection = try? RawConnection(server.http) {
                while true {
                  guard let answer = connection.request("POST", predictPath, [], predictBody), answer.status == 200 else {
                    lost += 1
                    break
                  }
                  answered += 1
                  if answer.field("connection") == "close" { break }
                }
              }
              return (answered, lost)
            }
          }
        }
        return try await group.reduce(into: (0, 0)) { $0 = ($0.0 + $1.answered, $0.1 + $1.lost) }
      }
      try await stopped.value
      #expect(counts.0 > 8)
      #expect(counts.1 == 0)
    }
  }

  @Test func callsThatHaveBegunEndWell() async throws {
    try await withServer { (server) async throws in
      try await withClient(server.grpc) { (client) async throws in
        let service = Inference_GRPCInferenceService.Client(wrapping: client)
        let health = Grpc_Health_V1_Health.Client(wrapping: client)
        #expect(try await health.check(.init()).status == .serving)
        #expect(try await health.check(.with { $0.service = "half_plus_two" }).status == .serving)
        #expect(try await health.check(.with { $0.service = "inference.GRPCInferenceService" }).status == .serving)
        let error = await #expect(throws: RPCError.self) { _ = try await health.check(.with { $0.service = "nobody" }) }
        #expect(error?.code == .notFound)
        let (changes, continuation) = AsyncStream.makeStream(of: Void.self)
        async let seen = health.watch(.init()) { response in
          var seen: [Grpc_Health_V1_HealthCheckResponse.ServingStatus] = []
          for try await message in response.messages {
            seen.append(message.status)
            continuation.yield()
          }
          return seen
        }
        await changes.first { _ in true }
        // One call after the other until there is no server any more.
        async let calls = {
          var answered = 0
          while true {
            do {
              _ = try await service.modelInfer(
                .with {
                  $0.modelName = "half_plus_two"
                  $0.inputs = [
                    .with {
                      ($0.name, $0.datatype, $0.shape) = ("x", "FP32", [1])
                      $0.contents.fp32Contents = [1]
                    }
                  ]
                })
              answered += 1
              if answered == 3 { server.server.stop() }
            } catch {
              return (answered, (error as? RPCError)?.code)
            }
          }
        }()
        #expect(try await seen == [.serving, .notServing])
        client.beginGracefulShutdown()
        let (answered, code) = await calls
        #expect(answered >= 3)
        // Or nil: it is the client that has stopped.
        #expect(code == nil || code == .unavailable)
      }
    }
  }

  @Test func aServerThatStopsIsNotReady() async throws {
    try await withServer { (server) async throws in
      try await blocking {
        let connection = try RawConnection(server.http)
        #expect(connection.request("GET", "/v2/health/ready")?.status == 200)
        server.server.stop()
        var last = connection.request("GET", "/v2/health/ready")
        while last?.status == 200 { last = connection.request("GET", "/v2/health/ready") }
        #expect(last?.status == 503)
      }
    }
  }

  @Test func whoCannotListenSaysSo() async throws {
    try await withServer { (server) async throws in
      var options = ServerOptions()
      (options.httpPort, options.grpcPort) = (server.http, 0)
      let second = ModelServer(ModelRepository(), options: options)
      let error = await #expect(throws: ServingError.self) { try await second.run(handlesSignals: false) }
      #expect(error?.message.contains("HTTP cannot listen at 127.0.0.1:\(server.http)") == true)
    }
  }

  // MARK: TLS

  private static let openssl = "/usr/bin/openssl"
  private static let curl = "/usr/bin/curl"
  private static var hasPrograms: Bool { [openssl, curl].allSatisfy { FileManager.default.isExecutableFile(atPath: $0) } }

  /// An authority, and certificates of it for a server and a client.
  private func withCertificates(_ body: (String) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tls-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    func openssl(_ arguments: [String]) async throws {
      #expect(try await runProgram(Self.openssl, arguments).status == 0, "openssl \(arguments.joined(separator: " "))")
    }
    try await openssl(
      ["req", "-x509"] + key + [
        "-keyout", "\(folder)/ca.key", "-out", "\(folder)/ca.pem", "-days", "2", "-subj", "/CN=Authority",
      ])
    for name in ["server", "client"] {
      try await openssl(
        ["req"] + key + ["-keyout", "\(folder)/\(name).key", "-out", "\(folder)/\(name).csr", "-subj", "/CN=\(name)"])
      try Data("subjectAltName=DNS:localhost,IP:127.0.0.1\n".utf8).write(to: URL(fileURLWithPath: "\(folder)/ext"))
      try await openssl([
        "x509", "-req", "-in", "\(folder)/\(name).csr", "-CA", "\(folder)/ca.pem", "-CAkey", "\(folder)/ca.key",
        "-CAcreateserial",
        "-days", "2", "-extfile", "\(folder)/ext", "-out", "\(folder)/\(name).pem",
      ])
    }
    try await body(folder)
  }

  @Test(.enabled(if: hasPrograms, "openssl and curl make certificates and speak HTTP/2"))
  func speaksHTTP2AndChecksCertificates() async throws {
    try await withCertificates { folder in
      let tls = ServerOptions.TLS(certificateFile: "\(folder)/server.pem", privateKeyFile: "\(folder)/server.key")
      try await withServer(options: { $0.tls = tls }) { (server) async throws in
        let url = "https://127.0.0.1:\(server.http)\(predictPath)"
        let write = [
          "-s", "--max-time", "20", "--cacert", "\(folder)/ca.pem", "-d", predictBody, "-w", " %{http_version} %{http_code}",
        ]
        for (version, number) in [("--http1.1", "1.1"), ("--http2", "2")] {
          let answer = try await runProgram(Self.curl, write + [version, url])
          #expect(answer.output.hasSuffix(" \(number) 200"))
          #expect(answer.output.contains("2.5"))
        }
        try await withClient(server.grpc, .tls { $0.trustRoots = .certificates([.file(path: "\(folder)/ca.pem", format: .pem)]) })
        {
          (client) async throws in
          #expect(try await Grpc_Health_V1_Health.Client(wrapping: client).check(.init()).status == .serving)
        }
      }
      var mutual = tls
      mutual.clientAuthorityFile = "\(folder)/ca.pem"
      try await withServer(options: { $0.tls = mutual }) { (server) async throws in
        let url = "https://127.0.0.1:\(server.http)/v2/health/live"
        let write = ["-s", "--max-time", "20", "--cacert", "\(folder)/ca.pem", "-w", " %{http_code}"]
        #expect(try await runProgram(Self.curl, write + [url]).status != 0)
        let client = ["--cert", "\(folder)/client.pem", "--key", "\(folder)/client.key"]
        #expect(try await runProgram(Self.curl, write + client + [url]).output.hasSuffix(" 200"))
        let security = HTTP2ClientTransport.Posix.TransportSecurity.mTLS(
          certificateChain: [.file(path: "\(folder)/client.pem", format: .pem)],
          privateKey: .file(path: "\(folder)/client.key", format: .pem)
        ) { $0.trustRoots = .certificates([.file(path: "\(folder)/ca.pem", format: .pem)]) }
        try await withClient(server.grpc, security) { (client) async throws in
          #expect(try await Grpc_Health_V1_Health.Client(wrapping: client).check(.init()).status == .serving)
        }
      }
    }
    var options = ServerOptions()
    options.tls = .init(certificateFile: "/nonexistent.pem", privateKeyFile: "/nonexistent.key")
    let error = await #expect(throws: ServingError.self) {
      try await ModelServer(ModelRepository(), options: options).run(handlesSignals: false)
    }
    #expect(error?.message.contains("the certificate cannot be read from '/nonexistent.pem'") == true)
  }

  @Test(.enabled(if: hasPrograms, "curl speaks HTTP/2"))
  func speaksHTTP2InTheClear() async throws {
    try await withServer { (server) async throws in
      let url = "http://127.0.0.1:\(server.http)"
      let write = ["-s", "--max-time", "20", "--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"]
      #expect(try await runProgram(Self.curl, write + ["-d", predictBody, url + predictPath]).output.hasSuffix(" 2 200"))
      #expect(try await runProgram(Self.curl, write + [url + "/nothing"]).output.hasSuffix(" 2 404"))
      let large = String(repeating: " ", count: 1_100_000)
      try await withTemporaryText(large) { path in
        let answer = try await runProgram(Self.curl, write + ["--data-binary", "@\(path)", url + predictPath])
        #expect(answer.output.hasSuffix(" 2 413"))
      }
    }
  }

  private func withTemporaryText(_ text: String, _ body: (String) async throws -> Void) async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)").path
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    try await body(path)
  }

  // MARK: As a library

  @Test func joinsAnotherApplication() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let serving = try await ModelServer(models: folder)
    let router = Router()
    serving.add(to: router)
    router.get("/mine") { _, _ in "mine" }
    try await Application(router: router).test(.router) { client in
      try await client.execute(uri: "/v2/health/live", method: .get) { #expect($0.status == .ok) }
      try await client.execute(uri: "/mine", method: .get) { #expect(String(buffer: $0.body) == "mine") }
      try await client.execute(uri: "/v2/models/nothing", method: .get) { #expect($0.status != .ok) }
    }
  }
}
