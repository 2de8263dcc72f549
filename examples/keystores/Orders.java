import java.net.URL;

/**
 * A client that shows its certificate. Keystore and truststore are those of the
 * system properties javax.net.ssl.*.
 */
public class Orders {
    public static void main(String[] args) throws Exception {
        try (var body = new URL(args[0]).openStream()) {
            body.transferTo(System.out);
        }
    }
}
