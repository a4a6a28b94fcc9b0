import ApusServables
import Testing

@Suite struct ServingErrorTests {
  @Test func codesBecomeTheStatusesOfTensorFlowServing() {
    #expect(ServingError(.resourceExhausted, "full").code.httpStatus == 429)
    #expect(ServingError(.notFound, "no").code.httpStatus == 404)
  }
}
