/// How a ``ModelServer`` listens.
public struct ServerOptions: Sendable {
  /// The address it listens at; only this machine reaches the default.
  public var host = "127.0.0.1"
  /// 0 takes a free one; nil: no HTTP.
  public var httpPort: Int? = 8501
  /// 0 takes a free one; nil: no gRPC.
  public var grpcPort: Int? = 8500
  /// Threads that move bytes; models run on others.
  public var eventLoopThreads = 2
  /// How long requests that have been accepted may take after the server was told to stop.
  public var drainTimeout: Duration = .seconds(30)

  public init() {}
}
