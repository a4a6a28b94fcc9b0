import Hummingbird

/// What the pages of `apus board` and `apus serve` share: style, elements, and how they are answered.
package enum SharedPage {
  package static var css: [UInt8] { PackageResources.base_css }
  package static var script: [UInt8] { PackageResources.elements_js }
}

/// Answers to a browser. Nothing from elsewhere is loaded or run, whatever stands in the data that a page shows.
package enum PageAnswer {
  /// - Parameter media: whether the page plays sounds of its own server.
  package static func answer(
    _ bytes: ByteBuffer, type: String, status: HTTPResponse.Status = .ok, media: Bool = false
  ) -> Response {
    var headers: HTTPFields = [.contentType: type, .cacheControl: "no-store"]
    headers[.xContentTypeOptions] = "nosniff"
    headers[.contentSecurityPolicy] =
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
      + (media ? "media-src 'self'; " : "") + "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: bytes))
  }
}
