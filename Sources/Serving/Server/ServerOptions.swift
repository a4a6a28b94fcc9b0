/// How a ``ModelServer`` listens, and what it endures.
public struct ServerOptions: Sendable {
  /// Certificates, as PEM files.
  public struct TLS: Sendable, Hashable {
    /// The server's certificate, followed by those that lead to its authority.
    public var certificateFile: String
    public var privateKeyFile: String
    /// Clients must have a certificate of one of these authorities (mTLS); nil: they need none.
    public var clientAuthorityFile: String?

    public init(certificateFile: String, privateKeyFile: String, clientAuthorityFile: String? = nil) {
      (self.certificateFile, self.privateKeyFile) = (certificateFile, privateKeyFile)
      self.clientAuthorityFile = clientAuthorityFile
    }
  }

  /// The address it listens at; only this machine reaches the default.
  public var host = "127.0.0.1"
  /// 0 takes a free one; nil: no HTTP.
  public var httpPort: Int? = 8501
  /// 0 takes a free one; nil: no gRPC.
  public var grpcPort: Int? = 8500
  /// nil: HTTP/1.1 and HTTP/2 in the clear. Else both, as the client prefers, and gRPC, over TLS 1.2 or later.
  public var tls: TLS?
  /// nil: whoever reaches the port may ask.
  public var tokens: AccessTokens?
  /// Whether health and metrics are answered without a token.
  public var isHealthOpen = false
  /// Connections that are open at once, for HTTP and for gRPC each; more wait until one closes.
  public var maxConnections = 10_000
  /// Most bytes of a request's head, in all and for one field.
  public var maxHeadBytes = 64 << 10
  /// Most fields of a request's head.
  public var maxHeadFields = 256
  /// How long a connection may wait for its next request.
  public var idleTimeout: Duration = .seconds(120)
  /// Bytes per second that a client must send of a body, on average; one that is slower is cut off.
  public var minBodyRate = 1_024
  /// How long requests that have been accepted may take after the server was told to stop.
  public var drainTimeout: Duration = .seconds(30)

  public init() {}

  /// Whether only this machine can reach the address.
  public var isLoopback: Bool { host == "localhost" || host == "::1" || host.hasPrefix("127.") }
  /// Whether clients must prove something.
  public var isProtected: Bool { tokens != nil || tls?.clientAuthorityFile != nil }
}
