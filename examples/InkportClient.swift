// A small client for Inkport's HTTP side: signs (HMAC v2), uploads, polls, fetches.
//
//   INKPORT_KEY_ID=key_… INKPORT_KEY_SECRET=ink_… swift InkportClient.swift http://127.0.0.1:8080 scan.jpg
//   swift InkportClient.swift vectors vectors.json     # does this client sign as the vectors say?
//
// On Linux, `import Crypto` of swift-crypto takes CryptoKit's place.
import Foundation

#if canImport(CryptoKit)
import CryptoKit
#else
import Crypto
#endif
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

func hex<Bytes: Sequence>(_ bytes: Bytes) -> String where Bytes.Element == UInt8 {
    bytes.map { String(format: "%02x", $0) }.joined()
}

/// What a signature of version 2 covers. `path` and `query` exactly as they travel.
func messageV2(id: String, timestamp: String, nonce: String, method: String, host: String, path: String, query: String,
               bodySHA256: String) -> String {
    // By bytes: Swift's own order of strings is another.
    let parts = query.split(separator: "&", omittingEmptySubsequences: false)
        .sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
        .joined(separator: "&")
    return ["INKPORT-HMAC-SHA256", id, timestamp, nonce, method, host.lowercased(), path, parts, bodySHA256]
        .joined(separator: "\n")
}

func mac(_ secret: String, _ message: String) -> String {
    hex(HMAC<SHA256>.authenticationCode(for: Data(message.utf8), using: SymmetricKey(data: Data(secret.utf8))))
}

func signV2(secret: String, message: String) -> String { "v2=" + mac(secret, message) }

func signV1(secret: String, timestamp: String, path: String) -> String { mac(secret, timestamp + path) }

struct Refused: Error, CustomStringConvertible {
    let status: Int
    let detail: String
    var description: String { "\(status): \(detail)" }
}

struct Inkport {
    let base: URL
    let id: String
    let secret: String

    /// One signed request; `target` is a path with its query.
    func request(_ method: String, _ target: String, body: Data = Data(), headers: [String: String] = [:]) async throws -> Data {
        guard let url = URL(string: target, relativeTo: base)?.absoluteURL,
              let parts = URLComponents(url: url, resolvingAgainstBaseURL: true), let name = parts.host
        else { throw Refused(status: 0, detail: "\(target) is no path") }
        let host = parts.port.map { "\(name):\($0)" } ?? name
        let formatter = ISO8601DateFormatter()
        formatter.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
        let timestamp = formatter.string(from: Date())
        let nonce = UUID().uuidString
        let bodySHA256 = hex(SHA256.hash(data: body))
        let message = messageV2(id: id, timestamp: timestamp, nonce: nonce, method: method, host: host,
                                path: parts.percentEncodedPath, query: parts.percentEncodedQuery ?? "", bodySHA256: bodySHA256)
        var request = URLRequest(url: url)
        request.httpMethod = method
        request.httpBody = body.isEmpty ? nil : body
        let signed = ["X-API-KEY": id, "X-TIMESTAMP": timestamp, "X-NONCE": nonce, "X-CONTENT-SHA256": bodySHA256,
                      "X-SIGNATURE": signV2(secret: secret, message: message)]
        for (header, value) in signed.merging(headers, uniquingKeysWith: { $1 }) {
            request.setValue(value, forHTTPHeaderField: header)
        }
        let (content, answer) = try await URLSession.shared.data(for: request)
        let status = (answer as? HTTPURLResponse)?.statusCode ?? 0
        guard status < 400 else {
            let problem = try? JSONSerialization.jsonObject(with: content) as? [String: Any]
            throw Refused(status: status, detail: problem?["detail"] as? String ?? "no detail")
        }
        return content
    }

    /// Hands a document in; answers the job's id once it is durable.
    func upload(name: String, content: Data) async throws -> String {
        let boundary = UUID().uuidString
        let clean = String(name.map { "\\\"\r\n".contains($0) ? "_" : $0 })
        var body = Data("--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(clean)\"\r\n".utf8)
        body.append(Data("Content-Type: application/octet-stream\r\n\r\n".utf8))
        body.append(content)
        body.append(Data("\r\n--\(boundary)--\r\n".utf8))
        let answer = try await request("POST", "/api/v1/ocr", body: body, headers: [
            "Content-Type": "multipart/form-data; boundary=\(boundary)", "Prefer": "respond-async",
        ])
        guard let job = (try JSONSerialization.jsonObject(with: answer) as? [String: Any])?["job"] as? String
        else { throw Refused(status: 0, detail: "the answer names no job") }
        return job
    }

    /// Polls until the job has ended, and answers it.
    func wait(job: String, tries: Int = 300) async throws -> [String: Any] {
        for _ in 0..<tries {
            let found = try JSONSerialization.jsonObject(with: await request("GET", "/api/v1/jobs/\(job)")) as? [String: Any] ?? [:]
            if ["done", "rejected", "dead"].contains(found["state"] as? String ?? "") { return found }
            try await Task.sleep(nanoseconds: 1_000_000_000)
        }
        throw Refused(status: 0, detail: "job \(job) has not ended")
    }

    func text(job: String) async throws -> String {
        String(decoding: try await request("GET", "/api/v1/jobs/\(job)/sidecars/txt"), as: UTF8.self)
    }
}

func checkVectors(_ path: String) throws -> Int {
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    let vectors = try JSONSerialization.jsonObject(with: data) as? [String: Any] ?? [:]
    let v1 = vectors["v1"] as? [[String: Any]] ?? [], v2 = vectors["v2"] as? [[String: Any]] ?? []
    var wrong = 0
    for vector in v1 {
        let text = { (name: String) in vector[name] as? String ?? "" }
        if signV1(secret: text("secret"), timestamp: text("timestamp"), path: text("path")) != text("signature") { wrong += 1 }
    }
    for vector in v2 {
        let text = { (name: String) in vector[name] as? String ?? "" }
        let digits = Array(text("body_hex"))
        let body = Data(stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) })
        let message = messageV2(id: text("id"), timestamp: text("timestamp"), nonce: text("nonce"), method: text("method"),
                                host: text("host"), path: text("path"), query: text("query"), bodySHA256: hex(SHA256.hash(data: body)))
        if message != text("message") || signV2(secret: text("secret"), message: message) != text("signature") { wrong += 1 }
    }
    print("\(v1.count + v2.count) vectors, \(wrong) signed otherwise")
    return wrong
}

func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

let arguments = CommandLine.arguments.dropFirst()
guard arguments.count >= 2, let first = arguments.first else {
    complain("usage: InkportClient.swift URL FILE… | vectors FILE")
    exit(2)
}
if first == "vectors" {
    exit(try checkVectors(arguments[arguments.startIndex + 1]) == 0 ? 0 : 1)
}
let environment = ProcessInfo.processInfo.environment
guard let base = URL(string: first), let id = environment["INKPORT_KEY_ID"], let secret = environment["INKPORT_KEY_SECRET"] else {
    complain("INKPORT_KEY_ID and INKPORT_KEY_SECRET are not set: `inkport key add ACCOUNT --kind hmac` prints both")
    exit(2)
}
let client = Inkport(base: base, id: id, secret: secret)
do {
    for path in arguments.dropFirst() {
        let file = URL(fileURLWithPath: path)
        let job = try await client.upload(name: file.lastPathComponent, content: Data(contentsOf: file))
        let ended = try await client.wait(job: job)
        if ended["state"] as? String == "done" {
            print(try await client.text(job: job), terminator: "")
        } else {
            complain("\(path): \(ended["state"] ?? "?"): \(ended["error"] ?? "?")")
            exit(1)
        }
    }
} catch {
    complain("\(error)")
    exit(1)
}
