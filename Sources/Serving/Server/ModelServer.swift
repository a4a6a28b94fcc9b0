import ApusServables
import ApusServingProtocols
import GRPCCore
import GRPCNIOTransportHTTP2
import Hummingbird
import HummingbirdHTTP2
import HummingbirdTLS
import Logging
import NIOSSL
import ServiceLifecycle

/// Serves the models of a repository over HTTP and gRPC.
public struct ModelServer: Sendable {
  public let repository: ModelRepository

  public init(_ repository: ModelRepository) { self.repository = repository }
}
