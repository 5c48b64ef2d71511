# A site that counts its visits on the server. Run it: COUNTER=http://127.0.0.1:8000 PORT=8080 ruby visits.rb
require "cgi"
require "erb"
require "json"
require "net/http"
require "webrick"

COUNTER = ENV.fetch("COUNTER", "http://127.0.0.1:8000")

# Records a visit of a page. Its count, the visit included; nil: the counter does not say now, and the page goes without.
def visits(page)
  address = URI("#{COUNTER}/visit/#{ERB::Util.url_encode(page)}?count")
  answer = Net::HTTP.start(address.host, address.port, use_ssl: address.scheme == "https", open_timeout: 1, read_timeout: 1) do |http|
    http.post(address.request_uri, "")
  end
  JSON.parse(answer.body)["count"]
rescue SystemCallError, IOError, Timeout::Error, JSON::ParserError
  nil
end

site = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: ENV.fetch("PORT", "8080").to_i, AccessLog: [])
site.mount_proc("/") do |request, answer|
  page = request.path.dup.force_encoding("UTF-8")
  count = visits(page)
  answer["Content-Type"] = "text/html; charset=utf-8"
  answer.body = "<!doctype html><title>#{CGI.escapeHTML(page)}</title><h1>#{CGI.escapeHTML(page)}</h1>"
  answer.body += "<p>Read #{count} times</p>" if count
end
trap("TERM") { site.shutdown }
site.start
