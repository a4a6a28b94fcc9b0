import ApusServables
import ApusServing
import ArgumentParser

struct ServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Serve models over REST and gRPC: TensorFlow Serving's API and the Open Inference Protocol.",
    discussion:
      "When the ports are open it prints `listening http=HOST:PORT grpc=HOST:PORT`, and when every model is served `ready` with the "
      + "same. SIGTERM and SIGINT end it once all accepted requests have been answered; a second one ends it at once. SIGHUP looks for "
      + "models again.")

  struct Models: ParsableArguments {
    @Option(help: "A folder of models: NAME/VERSION/any.apus.")
    var models: String?
    @Option(help: "One model: an artifact, NAME.apus.")
    var model: String?
    @Option(help: "The name of --model; else that of its file.")
    var name: String?
    @Option(help: "A configuration file: TensorFlow Serving's, or our own in JSON.")
    var config: String?
    @Option(help: "Look for new versions after each so many seconds.")
    var poll: Double?
    @Flag(help: "Load nothing until a client asks for it.")
    var explicit = false
  }

  struct Scheduling: ParsableArguments {
    @Option(help: "Join requests to batches of at most so many examples.")
    var maxBatchSize: Int?
    @Option(name: .customLong("batch-delay-us"), help: "How long the first request of a batch waits for others, in microseconds.")
    var batchDelay: Int?
    @Option(help: "Sizes at which a batch is begun without waiting, such as 8,16.")
    var preferredBatchSizes: String?
    @Option(help: "Sizes that a batch may have; it is padded to the next one.")
    var allowedBatchSizes: String?
    @Option(help: "Runs of each model at once.")
    var instances: Int?
    @Option(help: "Requests to a model that may wait.")
    var maxQueue: Int?
    @Option(help: "Bytes of answers to keep for requests with the same inputs.")
    var cacheBytes: Int?

    /// What was given, over what a model's own configuration says.
    func apply(to options: inout SchedulingOptions) {
      if let maxBatchSize {
        options.batching = maxBatchSize > 1 ? options.batching ?? .init() : nil
        options.batching?.maxBatchSize = maxBatchSize
      }
      if let batchDelay { options.batching?.maxQueueDelay = .microseconds(batchDelay) }
      if let sizes = Self.sizes(preferredBatchSizes) { options.batching?.preferredBatchSizes = sizes }
      if let sizes = Self.sizes(allowedBatchSizes) { options.batching?.allowedBatchSizes = sizes }
      if let instances { options.instances = instances }
      if let maxQueue { options.maxQueueSize = maxQueue }
      if let cacheBytes { options.cacheBytes = cacheBytes }
    }

    private static func sizes(_ text: String?) -> [Int]? {
      text?.split(separator: ",").compactMap { Int($0.trimmingSpaces) }.sorted()
    }

    func validate() throws {
      for (name, value) in [
        ("--max-batch-size", maxBatchSize), ("--instances", instances), ("--max-queue", maxQueue),
      ] {
        if let value, !(1...1_000_000).contains(value) { throw ValidationError("\(name) \(value) is not within 1...1000000.") }
      }
      if let batchDelay, !(0...60_000_000).contains(batchDelay) {
        throw ValidationError("--batch-delay-us \(batchDelay) is not within 0...60000000.")
      }
      if let cacheBytes, cacheBytes < 0 { throw ValidationError("--cache-bytes \(cacheBytes) is negative.") }
      for (name, text) in [("--preferred-batch-sizes", preferredBatchSizes), ("--allowed-batch-sizes", allowedBatchSizes)] {
        guard let text else { continue }
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard parts.allSatisfy({ (Int($0.trimmingSpaces) ?? 0) > 0 }) else {
          throw ValidationError("\(name) '\(text)' is no list of sizes such as 8,16.")
        }
      }
      if maxBatchSize ?? 0 <= 1, batchDelay != nil || preferredBatchSizes != nil || allowedBatchSizes != nil {
        throw ValidationError("Batches need --max-batch-size of at least 2.")
      }
    }
  }

  struct Listening: ParsableArguments {
    @Option(help: "The address to listen at; only this machine reaches the default.")
    var host = "127.0.0.1"
    @Option(help: "The port of REST; 0 takes a free one, -1 none.")
    var httpPort = 8501
    @Option(help: "The port of gRPC; 0 takes a free one, -1 none.")
    var grpcPort = 8500
    @Option(help: "Write the line `ready …` to this file when every model is served.")
    var readyFile: String?
    @Option(help: "Threads that move bytes.")
    var ioThreads = 2
    @Option(help: "How long accepted requests may take after SIGTERM, in seconds.")
    var drainSeconds = 30.0
  }

  struct Limits: ParsableArguments {
    @Option(help: "Most bytes of a request's body or message.")
    var maxBodyBytes = 1 << 28
    @Option(help: "Most bytes of a request's head.")
    var maxHeadBytes = 64 << 10
    @Option(help: "Seconds that a client may take for a request's head, and between two parts of its body.")
    var readTimeout = 30.0
    @Option(help: "Seconds that a connection may wait for its next request.")
    var idleTimeout = 120.0
    @Option(help: "Connections open at once, for each protocol.")
    var maxConnections = 10_000
    @Option(help: "Requests that are answered at once; more are refused with 503.")
    var maxConcurrent = 4_096
  }

  struct Security: ParsableArguments {
    @Option(help: "The server's certificate and those that lead to its authority (PEM): TLS on both ports.")
    var tlsCert: String?
    @Option(help: "The certificate's private key (PEM).")
    var tlsKey: String?
    @Option(help: "Clients must have a certificate of this authority (PEM).")
    var clientCA: String?
    @Option(help: "A file of bearer tokens, one a line; requests need one of them.")
    var tokenFile: String?
    @Flag(help: "Health and metrics need no token.")
    var openHealth = false
  }

  struct Logs: ParsableArguments {
    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel = "info"
    @Option(help: "text or json.")
    var logFormat = "text"
    @Option(help: "Requests to log: none, failures or all.")
    var logRequests = "none"
  }

  @OptionGroup(title: "Models") var models: Models
  @OptionGroup(title: "Batches and queues") var scheduling: Scheduling
  @OptionGroup(title: "Addresses") var listening: Listening
  @OptionGroup(title: "Limits") var limits: Limits
  @OptionGroup(title: "Security") var security: Security
  @OptionGroup(title: "Logs") var logs: Logs

  func validate() throws {
    switch [models.models, models.model, models.config].compactMap({ $0 }).count {
    case 0: throw ValidationError("One of --models DIR, --model FILE and --config FILE is needed.")
    case 1: break
    default: throw ValidationError("Only one of --models, --model and --config can be given.")
    }
    if models.name != nil, models.model == nil { throw ValidationError("--name is for --model.") }
    if models.explicit, models.poll != nil { throw ValidationError("--explicit and --poll exclude each other.") }
    if let poll = models.poll, !(poll >= 0.1 && poll <= 86_400) {
      throw ValidationError("--poll \(poll) is not within 0.1...86400.")
    }
    for (name, port) in [("--http-port", listening.httpPort), ("--grpc-port", listening.grpcPort)] {
      guard (-1...65_535).contains(port) else { throw ValidationError("\(name) \(port) is not within -1...65535.") }
    }
    if listening.httpPort == -1, listening.grpcPort == -1 {
      throw ValidationError("Without --http-port and --grpc-port nobody can ask.")
    }
    guard (1...64).contains(listening.ioThreads) else {
      throw ValidationError("--io-threads \(listening.ioThreads) is not within 1...64.")
    }
    for (name, value) in [
      ("--drain-seconds", listening.drainSeconds), ("--read-timeout", limits.readTimeout), ("--idle-timeout", limits.idleTimeout),
    ] where !(value >= 0.05 && value <= 86_400) {
      throw ValidationError("\(name) \(value) is not within 0.05...86400.")
    }
    for (name, value) in [
      ("--max-body-bytes", limits.maxBodyBytes), ("--max-connections", limits.maxConnections),
      ("--max-concurrent", limits.maxConcurrent),
    ] where value < 1 || value > 1 << 31 {
      throw ValidationError("\(name) \(value) is not within 1...\(1 << 31).")
    }
    guard (512...1 << 20).contains(limits.maxHeadBytes) else {
      throw ValidationError("--max-head-bytes \(limits.maxHeadBytes) is not within 512...\(1 << 20).")
    }
    if (security.tlsCert == nil) != (security.tlsKey == nil) {
      throw ValidationError("--tls-cert and --tls-key belong together.")
    }
    if security.clientCA != nil, security.tlsCert == nil { throw ValidationError("--client-ca needs --tls-cert and --tls-key.") }
    guard ServingLog.levels.contains(logs.logLevel) else {
      throw ValidationError("--log-level '\(logs.logLevel)' is none of \(ServingLog.levels.joined(separator: ", ")).")
    }
    guard ServingJournal.RequestLog(rawValue: logs.logRequests) != nil else {
      throw ValidationError("--log-requests '\(logs.logRequests)' is none of none, failures and all.")
    }
    guard ["text", "json"].contains(logs.logFormat) else {
      throw ValidationError("--log-format '\(logs.logFormat)' is neither text nor json.")
    }
  }

  private var source: ModelSource {
    if let model = models.model { return .model(path: model, name: models.name) }
    if let config = models.config { return .configuration(config) }
    return .folder(models.models ?? "")
  }

  private func options() throws -> ServerOptions {
    var options = ServerOptions()
    options.host = listening.host
    options.httpPort = listening.httpPort < 0 ? nil : listening.httpPort
    options.grpcPort = listening.grpcPort < 0 ? nil : listening.grpcPort
    options.drainTimeout = .seconds(listening.drainSeconds)
    options.maxConnections = limits.maxConnections
    options.maxHeadBytes = limits.maxHeadBytes
    options.idleTimeout = .seconds(limits.idleTimeout)
    if let certificate = security.tlsCert, let key = security.tlsKey {
      options.tls = .init(certificateFile: certificate, privateKeyFile: key, clientAuthorityFile: security.clientCA)
    }
    if let file = security.tokenFile { options.tokens = try AccessTokens(file: file) }
    options.isHealthOpen = security.openHealth
    return options
  }

  func run() async throws {
    let options = try options()
    var limits = ServingLimits()
    limits.maxBodyBytes = self.limits.maxBodyBytes
    limits.maxConcurrentRequests = self.limits.maxConcurrent
    limits.readTimeout = .seconds(self.limits.readTimeout)
    let log = ServingLog(level: logs.logLevel, isJSON: logs.logFormat == "json")
    if !options.isLoopback, !options.isProtected {
      log.warning(
        "listening at \(options.host) without --token-file or --client-ca: whoever reaches the ports may use and unload the models"
      )
    }
    if options.tokens != nil, options.tls == nil, !options.isLoopback {
      log.warning("tokens are sent in the clear: give --tls-cert and --tls-key")
    }
    ModelServer.useThreads(listening.ioThreads)

    // What the command line says comes before what a settings file says.
    let settings = try models.config.map { try RepositoryConfiguration(file: $0) }
    let mode: ModelRepository.Mode =
      models.explicit ? .explicit : models.poll.map { .polling(.seconds($0)) } ?? settings?.mode ?? .fixed
    var repository = RepositoryOptions()
    repository.warmUpLog = WarmUpLogs.request
    if let threads = settings?.loadThreads { repository.loadThreads = threads }
    if let retries = settings?.loadRetries { repository.loadRetries = retries }
    if let allows = settings?.allowsLabelsForUnavailableVersions { repository.allowsLabelsForUnavailableVersions = allows }
    let scheduling = scheduling
    var journal = ServingJournal.Options()
    journal.requestLog = ServingJournal.RequestLog(rawValue: logs.logRequests) ?? .none
    let server = ModelServer(
      ServingContext(
        ModelRepository(mode: mode, options: repository), limits: limits, journal: ServingJournal(journal, logger: log.logger)),
      source: source,
      configure: { scheduling.apply(to: &$0.scheduling) }, options: options, logger: log.logger)
    let readyFile = listening.readyFile
    do {
      try await server.run { event in
        switch event {
        case .listening(let addresses): say("listening \(addresses.line)")
        case .ready(let addresses):
          say("ready \(addresses.line)")
          if let readyFile { log.write("ready \(addresses.line)\n", to: readyFile) }
        case .notServed(let name, let error): log.error("the model '\(name)' is not served: \(error.message)")
        case .reloaded: log.notice("looked for models again")
        case .reloadFailed(let error): log.error("models are served as before: \(error.message)")
        case .stopping: log.notice("stopping: no more connections are taken, accepted requests are answered")
        case .abandoned(let count): log.error("stopped with \(count) requests that were not answered")
        }
      }
    } catch let error as ServingError {
      log.error(error.message)
      throw ExitCode.failure
    }
  }
}

private func say(_ line: String) {
  print(line)
  flush()
}

extension Substring {
  fileprivate var trimmingSpaces: Substring {
    var part = self
    while part.first == " " { part.removeFirst() }
    while part.last == " " { part.removeLast() }
    return part
  }
}
