# What R answers: Rscript parity_tests/certificate/answers.R writes answers.json beside it (half a minute).
#
# Debian 12: apt-get install r-base-core r-cran-mclust r-cran-lavaan r-cran-jsonlite; the versions stand in the file.
# Every iteration is run to its end, not to the package's default stop, so that the optimum is the answer.
suppressMessages({library(mclust); library(lavaan); library(jsonlite)})

iterations <- 20000
to_the_end <- emControl(tol = c(0, 0), itmax = c(iterations, iterations))
tables <- list("old-faithful" = faithful, iris = iris[, 1:4], diabetes = diabetes[, c("glucose", "insulin", "sspg")])
models <- c(full = "VVV", tied = "EEE", diag = "VVI", spherical = "VII")

# mclust's own classification, then its EM from the M step of that classification
mixture <- function(name, type, k) {
  x <- as.matrix(tables[[name]])
  class <- Mclust(x, G = k, modelNames = models[[type]], verbose = FALSE)$classification
  fit <- suppressWarnings(me(x, models[[type]], z = unmap(class, 1:k), control = to_the_end))
  bic <- -bic(models[[type]], fit$loglik, nrow(x), ncol(x), k)
  list(data = name, type = type, k = k, start = paste(class, collapse = ""), log_likelihood = fit$loglik, bic = bic)
}
grid <- expand.grid(name = names(tables), type = names(models), k = 1:4, stringsAsFactors = FALSE)
mixtures <- Map(mixture, grid$name, grid$type, grid$k)

# MAP: mclust's default prior on Old Faithful, a Normal-inverse-Wishart with a flat Dirichlet
x <- as.matrix(faithful)
start <- Mclust(x, G = 2, modelNames = "VVV", verbose = FALSE)$classification
prior <- do.call("defaultPrior", c(list(x, G = 2, modelName = "VVV")))
fit <- suppressWarnings(me(x, "VVV", z = unmap(start), prior = priorControl(), control = to_the_end))
map <- c(prior, list(start = paste(start, collapse = ""), log_likelihood = fit$loglik, weights = fit$parameters$pro,
                     means = t(fit$parameters$mean), covariances = aperm(fit$parameters$variance$sigma, c(3, 1, 2))))

# gaps: lavaan's EM for the unrestricted Gaussian, then its information matrix's own log likelihood
gaps <- airquality[, c("Ozone", "Solar.R", "Wind", "Temp")]
patterns <- lavaan:::lav_data_missing_patterns(as.matrix(gaps))
h1 <- lavaan:::lav_mvnorm_missing_h1_estimate_moments(as.matrix(gaps), Mp = patterns, max.iter = iterations, tol = 1e-300)
lavaan <- list(mean = as.vector(h1$Mu), covariance = h1$Sigma, log_likelihood = lavaan:::lav_mvnorm_missing_loglik_data(
  as.matrix(gaps), Mu = h1$Mu, Sigma = h1$Sigma, pattern = TRUE))

# principal components and one factor of the irises
flowers <- as.matrix(iris[, 1:4])
one <- factanal(covmat = list(cov = cov.wt(flowers, method = "ML")$cov, n.obs = 150), factors = 1)
correlations <- cor(flowers)
fit_of_factor <- one$criteria[["objective"]] + log(det(correlations)) + 4 + 4 * log(2 * pi)
factor <- list(loadings = as.vector(one$loadings), uniquenesses = unname(one$uniquenesses),
               log_likelihood = -75 * fit_of_factor)

# the data of Stan's benchmark low_dim_gauss_mix, as its script draws them
set.seed(689934)
z <- rbinom(1000, 1, 0.4) + 1
y <- rnorm(1000, c(-2.75, 2.75)[z], 1)

versions <- sapply(c("mclust", "lavaan"), function(name) as.character(packageVersion(name)))
answers <- list(versions = as.list(c(R = as.character(getRversion()), versions)), mixtures = unname(mixtures), map = map,
                gaps = lavaan, components = prcomp(flowers)$sdev^2, factor = factor,
                diabetes = as.matrix(tables$diabetes), low_dim_gauss_mix = signif(y, 15))
written <- sapply(names(answers), function(name) paste0(toJSON(name, auto_unbox = TRUE), ": ",
                                                      toJSON(answers[[name]], auto_unbox = TRUE, digits = NA)))
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
writeLines(paste0("{", paste(written, collapse = ",\n"), "}"), file.path(here, "answers.json"))
