import ApusServables
import ApusServing
import HummingbirdTesting
import Testing

@Suite struct ModelServerTests {
  @Test func holdsItsRepository() {
    #expect(ModelServer(ModelRepository()).repository.names.isEmpty)
  }
}
