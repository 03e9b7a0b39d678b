// A small client for Inkport's HTTP side: signs (HMAC v2), uploads, polls, fetches.
//
//   dart pub add crypto
//   INKPORT_KEY_ID=key_… INKPORT_KEY_SECRET=ink_… dart run inkport_client.dart http://127.0.0.1:8080 scan.jpg
//   dart run inkport_client.dart vectors vectors.json     # does this client sign as the vectors say?
import 'dart:convert';
import 'dart:io';
import 'dart:math';
import 'dart:typed_data';

import 'package:crypto/crypto.dart';

/// Compares by UTF-8 bytes, which Dart's own comparison of strings does not.
int compareBytes(String a, String b) {
  final left = utf8.encode(a), right = utf8.encode(b);
  for (var at = 0; at < left.length && at < right.length; at++) {
    if (left[at] != right[at]) return left[at] - right[at];
  }
  return left.length - right.length;
}

/// What a signature of version 2 covers. [path] and [query] exactly as they travel.
String messageV2(String id, String timestamp, String nonce, String method, String host, String path, String query,
    String bodySha256) {
  final parts = query.split('&')..sort(compareBytes);
  return ['INKPORT-HMAC-SHA256', id, timestamp, nonce, method, host.toLowerCase(), path, parts.join('&'), bodySha256]
      .join('\n');
}

String signV2(String secret, String message) => 'v2=${Hmac(sha256, utf8.encode(secret)).convert(utf8.encode(message))}';

String signV1(String secret, String timestamp, String path) =>
    Hmac(sha256, utf8.encode(secret)).convert(utf8.encode(timestamp + path)).toString();

class Refused implements Exception {
  final int status;
  final String detail;
  Refused(this.status, this.detail);
  @override
  String toString() => '$status: $detail';
}

class Inkport {
  final Uri base;
  final String id, secret;
  final HttpClient _http = HttpClient();
  final Random _random = Random.secure();

  Inkport(this.base, this.id, this.secret);

  String _hex(int bytes) => List.generate(bytes, (_) => _random.nextInt(256).toRadixString(16).padLeft(2, '0')).join();

  /// One signed request; [target] is a path with its query.
  Future<Uint8List> request(String method, String target, {List<int> body = const [], Map<String, String> headers = const {}}) async {
    final uri = base.resolve(target);
    final host = uri.hasPort ? '${uri.host}:${uri.port}' : uri.host;
    final timestamp = DateTime.now().toUtc().toIso8601String();
    final nonce = _hex(16);
    final bodySha256 = sha256.convert(body).toString();
    final message = messageV2(id, timestamp, nonce, method, host, uri.path, uri.query, bodySha256);
    final request = await _http.openUrl(method, uri);
    request.headers
      ..set('Host', host)
      ..set('X-API-KEY', id)
      ..set('X-TIMESTAMP', timestamp)
      ..set('X-NONCE', nonce)
      ..set('X-CONTENT-SHA256', bodySha256)
      ..set('X-SIGNATURE', signV2(secret, message));
    headers.forEach(request.headers.set);
    if (body.isNotEmpty) {
      request.contentLength = body.length;
      request.add(body);
    }
    final answer = await request.close();
    final content = BytesBuilder();
    await answer.forEach(content.add);
    final bytes = content.takeBytes();
    if (answer.statusCode >= 400) {
      final text = utf8.decode(bytes, allowMalformed: true);
      String detail = text;
      try {
        detail = (jsonDecode(text) as Map)['detail'].toString();
      } on FormatException {
        // Not a problem of the daemon's: a proxy's page, say.
      }
      throw Refused(answer.statusCode, detail);
    }
    return bytes;
  }

  /// Hands a document in; answers the job's id once it is durable.
  Future<String> upload(String name, List<int> content) async {
    final boundary = _hex(16);
    final clean = name.replaceAll(RegExp(r'[\\"\r\n]'), '_');
    final body = [
      ...utf8.encode('--$boundary\r\nContent-Disposition: form-data; name="file"; filename="$clean"\r\n'
          'Content-Type: application/octet-stream\r\n\r\n'),
      ...content,
      ...utf8.encode('\r\n--$boundary--\r\n'),
    ];
    final answer = await request('POST', '/api/v1/ocr',
        body: body, headers: {'Content-Type': 'multipart/form-data; boundary=$boundary', 'Prefer': 'respond-async'});
    return (jsonDecode(utf8.decode(answer)) as Map)['job'] as String;
  }

  /// Polls until the job has ended, and answers it.
  Future<Map<String, dynamic>> wait(String job, {Duration every = const Duration(seconds: 1), int tries = 300}) async {
    for (var round = 0; round < tries; round++) {
      final found = jsonDecode(utf8.decode(await request('GET', '/api/v1/jobs/$job'))) as Map<String, dynamic>;
      if (['done', 'rejected', 'dead'].contains(found['state'])) return found;
      await Future<void>.delayed(every);
    }
    throw StateError('job $job has not ended');
  }

  Future<String> text(String job) async => utf8.decode(await request('GET', '/api/v1/jobs/$job/sidecars/txt'));

  void close() => _http.close();
}

int checkVectors(String path) {
  final vectors = jsonDecode(File(path).readAsStringSync()) as Map<String, dynamic>;
  var wrong = 0;
  for (final vector in (vectors['v1'] as List).cast<Map<String, dynamic>>()) {
    if (signV1(vector['secret'], vector['timestamp'], vector['path']) != vector['signature']) wrong++;
  }
  for (final vector in (vectors['v2'] as List).cast<Map<String, dynamic>>()) {
    final digits = vector['body_hex'] as String;
    final body = [for (var at = 0; at < digits.length; at += 2) int.parse(digits.substring(at, at + 2), radix: 16)];
    final message = messageV2(vector['id'], vector['timestamp'], vector['nonce'], vector['method'], vector['host'],
        vector['path'], vector['query'], sha256.convert(body).toString());
    if (message != vector['message'] || signV2(vector['secret'], message) != vector['signature']) wrong++;
  }
  stdout.writeln('${(vectors['v1'] as List).length + (vectors['v2'] as List).length} vectors, $wrong signed otherwise');
  return wrong;
}

Future<void> main(List<String> arguments) async {
  if (arguments.length < 2) {
    stderr.writeln('usage: inkport_client.dart URL FILE… | vectors FILE');
    exit(2);
  }
  if (arguments.first == 'vectors') exit(checkVectors(arguments[1]) == 0 ? 0 : 1);
  final id = Platform.environment['INKPORT_KEY_ID'], secret = Platform.environment['INKPORT_KEY_SECRET'];
  if (id == null || secret == null) {
    stderr.writeln('INKPORT_KEY_ID and INKPORT_KEY_SECRET are not set: `inkport key add ACCOUNT --kind hmac` prints both');
    exit(2);
  }
  final client = Inkport(Uri.parse(arguments.first), id, secret);
  try {
    for (final path in arguments.skip(1)) {
      final job = await client.upload(path.split(Platform.pathSeparator).last, await File(path).readAsBytes());
      final ended = await client.wait(job);
      if (ended['state'] == 'done') {
        stdout.write(await client.text(job));
      } else {
        stderr.writeln('$path: ${ended['state']}: ${ended['error']}');
        exitCode = 1;
      }
    }
  } on Refused catch (refused) {
    stderr.writeln(refused);
    exitCode = 1;
  } finally {
    client.close();
  }
}
