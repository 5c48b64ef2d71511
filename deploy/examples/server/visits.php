<?php
// A site that counts its visits on the server. Run it: COUNTER=http://127.0.0.1:8000 php -S 127.0.0.1:8080 visits.php

/** Records a visit of a page. Its count, the visit included; null: the counter does not say now, and the page goes without. */
function visits(string $page): ?int
{
    $counter = getenv('COUNTER') ?: 'http://127.0.0.1:8000';
    $limits = stream_context_create(['http' => ['method' => 'POST', 'content' => '', 'timeout' => 1, 'ignore_errors' => true]]);
    $answer = @file_get_contents($counter . '/visit/' . rawurlencode($page) . '?count', false, $limits);
    return json_decode($answer ?: '{}', true)['count'] ?? null;
}

$page = rawurldecode(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
$count = visits($page);
?>
<!doctype html>
<meta charset="utf-8">
<title><?= htmlspecialchars($page) ?></title>
<h1><?= htmlspecialchars($page) ?></h1>
<?php if ($count !== null) : ?><p>Read <?= number_format($count) ?> times</p><?php endif; ?>
