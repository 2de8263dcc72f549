import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsExchange;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;

/**
 * A server that wants a certificate of its clients, and greets them by it. Keystore
 * and truststore are those of the system properties javax.net.ssl.*.
 */
public class Shop {
    public static void main(String[] args) throws Exception {
        int port = args.length > 0 ? Integer.parseInt(args[0]) : 8443;
        var server = HttpsServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        server.setHttpsConfigurator(new HttpsConfigurator(SSLContext.getDefault()) {
            @Override
            public void configure(HttpsParameters p) {
                SSLParameters tls = getSSLContext().getDefaultSSLParameters();
                tls.setNeedClientAuth(true);
                p.setSSLParameters(tls);
            }
        });
        server.createContext("/", exchange -> {
            var client = ((HttpsExchange) exchange).getSSLSession().getPeerPrincipal();
            byte[] greeting = ("hello " + client.getName() + "\n").getBytes();
            exchange.sendResponseHeaders(200, greeting.length);
            try (var body = exchange.getResponseBody()) {
                body.write(greeting);
            }
        });
        server.start();
        System.out.println("https://localhost:" + server.getAddress().getPort() + "/");
    }
}
