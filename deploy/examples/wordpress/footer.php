<?php
/**
 * The footer of a WordPress theme: counts each page that visitors see, and shows its count.
 *
 * WordPress names a page by its canonical link, which the script takes. Put in your counter's line: `visitctl embed` prints it.
 */

$counter = 'https://counter.example';
// Who writes the site does not add to its counts.
$counts = !is_user_logged_in() && !is_preview() && !is_404();
?>
<footer class="site-footer">
  <?php if (is_singular()) : ?>
    <p class="visits"><?php echo esc_html__('Read', 'theme'); ?> <span data-visits></span> <?php echo esc_html__('times', 'theme'); ?></p>
  <?php endif; ?>
</footer>
<?php if ($counts) : ?>
  <script defer src="<?php echo esc_url($counter . '/count.1.js'); ?>" integrity="sha384-yUR2Qp8wyTh8rDzietBPb/x6WMDe1DZ3KBMGNzs3TbL0SVXqm92gXe3URt/eJm36" crossorigin="anonymous"></script>
<?php endif; ?>
<?php wp_footer(); ?>
</body>
</html>
